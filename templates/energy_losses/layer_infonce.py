"""InfoNCE against made negatives: actions of the policy's earlier layers, noisy and reordered expert actions."""

from collections.abc import Sequence

import torch
import torch.distributed as dist
from torch import Tensor, nn

from .global_infonce import distance, idle, infonce
from .metrics import announce_later, next_check
from .ranks import ALONE, average_when_done, exchange, training_ranks
from .scoring import energy_matrix

_NOISE = (0.1, 0.2, 0.4)


def layer_based_energy_infonce_loss(
    energy_model: nn.Module,
    context_hidden: Tensor,
    ground_truth_actions: Tensor,
    layer_actions: Sequence[Tensor],
    energy_mask: Tensor | None,
    tau: float = 0.3,
    num_negatives: int = 8,
    *,
    min_distance: float = 0.0,
    generator: torch.Generator | None = None,
    group: dist.ProcessGroup | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """InfoNCE loss (van den Oord et al. 2018, arXiv:1807.03748) of each row against negatives of its own.

    The number of negatives does not depend on the batch, nothing travels (the checksum of the weights goes with the
    gradients that ``replicate`` averages), and the loss is the mean over the local rows. So the mean of the ranks'
    gradients weighs *ranks* equally, as ``DistributedDataParallel`` does with the policy's: where rows are uneven, a
    row of a smaller batch counts more.

    Args:
        energy_model: ``energy_model(h, a, pad_mask)`` gives [B, 1], low for an action that fits.
        context_hidden: contexts, [B, S, D].
        ground_truth_actions: the expert's action of each row, [B, H, Da].
        layer_actions: what the policy's head predicts from each layer, first to last, each [B, H, Da].
        energy_mask: [B, S], True at positions to ignore.
        tau: temperature, above 0.
        num_negatives: negatives of each row, see ``make_negatives``.
        min_distance: negatives closer than this to the expert's action (root mean square over the chunk, in the
            actions' unit) do not count.
        generator: draws the noise; by default the device's own.
        group: the ranks that the first-step line compares; all by default.

    Returns:
        The loss, the mean energy of the experts' actions and that of the negatives (0 if there are none), all three
        attached to the graph. Each has at least float32's precision.

    Raises:
        ValueError: a setting or a shape is wrong on this rank.
    """
    ranks = training_ranks(group)
    check = next_check(energy_model, ranks)
    problem = ALONE.problem(tau, min_distance, None)
    if num_negatives < 1:
        problem = "num_negatives must be at least 1"
    exchange(ALONE, context_hidden, ground_truth_actions, energy_mask, problem)
    negatives = make_negatives(ground_truth_actions, layer_actions, num_negatives, generator)
    if len(context_hidden) == 0:
        result = idle(energy_model, context_hidden, ground_truth_actions, energy_mask)
    else:
        candidates = torch.cat([ground_truth_actions.unsqueeze(1), negatives], dim=1)  # [B, 1 + M, H, Da]
        energies = average_when_done(energy_matrix(energy_model, context_hidden, candidates, energy_mask))
        expert_first = torch.zeros(len(energies), dtype=torch.int64, device=energies.device)
        dropped = None
        if min_distance > 0:
            dropped = distance(ground_truth_actions.unsqueeze(1), candidates) < min_distance
        losses, e_pos, e_neg = infonce(energies, expert_first, tau, dropped)
        result = losses.mean(), e_pos, e_neg
    announce_later(energy_model, ranks, check, 1 + num_negatives)
    return result


@torch.no_grad()
def make_negatives(
    expert: Tensor, layer_actions: Sequence[Tensor], count: int, generator: torch.Generator | None = None
) -> Tensor:
    """The first ``count`` negatives, [B, count, H, Da], for expert actions [B, H, Da].

    In this order: the actions of layers 0, L // 3, L // 2 and L - 2 of L, each once and never the last layer's, whose
    actions are to be good; the expert's with Gaussian noise of standard deviation 0.1, 0.2 and 0.4; the expert's steps
    in another order; and more noise, 0.3 + 0.1 k with k negatives before it.
    """
    negatives = [_layer(layer_actions, index, expert) for index in _layer_indices(len(layer_actions))]
    negatives += [_noisy(expert, sigma, generator) for sigma in _NOISE]
    if expert.shape[1] > 1:
        negatives.append(_reordered(expert, generator))
    while len(negatives) < count:
        negatives.append(_noisy(expert, 0.3 + 0.1 * len(negatives), generator))
    return torch.stack(negatives[:count], dim=1)


def _layer_indices(layers: int) -> list[int]:
    wanted = dict.fromkeys((0, layers // 3, layers // 2, layers - 2))
    return [index for index in wanted if 0 <= index < layers - 1]


def _layer(layer_actions: Sequence[Tensor], index: int, expert: Tensor) -> Tensor:
    actions = layer_actions[index]
    if actions.shape != expert.shape:
        raise ValueError(f"layer_actions[{index}] is {[*actions.shape]}, the expert's actions are {[*expert.shape]}")
    return actions.to(expert)


def _noisy(expert: Tensor, sigma: float, generator: torch.Generator | None) -> Tensor:
    # Drawn in float32: in 16 bits, the tails of a normal distribution are coarse.
    device = expert.device if generator is None else generator.device
    noise = torch.randn(expert.shape, generator=generator, device=device, dtype=torch.float32)
    return expert + (sigma * noise).to(expert)


def _reordered(expert: Tensor, generator: torch.Generator | None) -> Tensor:
    """Each row's steps in a random order that is not its own."""
    device = expert.device if generator is None else generator.device
    order = torch.rand(expert.shape[:2], generator=generator, device=device).argsort(dim=1).to(expert.device)
    unmoved = (order == torch.arange(order.shape[1], device=order.device)).all(dim=1, keepdim=True)
    order = torch.where(unmoved, order.roll(1, dims=1), order)
    return expert.gather(1, order.unsqueeze(2).expand_as(expert))

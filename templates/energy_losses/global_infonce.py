"""InfoNCE over the actions of all ranks."""

import math
import warnings

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from .metrics import announce, next_check, record
from .ranks import Ranks, average_when_done, exchange, training_ranks
from .scoring import energy_matrix, evaluating


def distributed_energy_inbatch_swap_infonce(
    energy_model: nn.Module,
    h: Tensor,
    a_pos: Tensor,
    pad_mask: Tensor | None = None,
    tau: float = 0.5,
    world_size: int | None = None,
    *,
    group: dist.ProcessGroup | None = None,
    min_distance: float = 0.0,
) -> tuple[Tensor, Tensor, Tensor]:
    """InfoNCE loss (van den Oord et al. 2018, arXiv:1807.03748) of the local rows against the actions of all ranks.

        rank 0:  h_0 h_1  x  a_0 a_1 a_2 a_3 a_4        loss_i = -log softmax_j(-E(h_i, a_j) / tau) at j = i
        rank 1:  h_2 h_3 h_4  x  a_0 a_1 a_2 a_3 a_4

    Each rank scores its own B rows only, and only actions travel. Row i weighs W / N for W ranks with N rows
    together, so the *mean* of the ranks' gradients (``average_gradients``) is that of one process with the whole
    batch, also where ranks have unequal rows or none. Gradients reach this rank's own actions; those of other ranks
    are constants. Without a process group or with gradients disabled, the local rows are the whole batch.

    Args:
        energy_model: ``energy_model(h, a, pad_mask)`` gives [B, 1], low for an action that fits.
        h: contexts, [B, S, D]; S may differ between ranks.
        a_pos: the action of each row, [B, H, Da].
        pad_mask: [B, S], True at positions to ignore.
        tau: temperature, above 0.
        world_size: if given, must be the size of the group while training.
        group: the ranks to train with; all by default.
        min_distance: other rows' actions closer than this to a row's own (root mean square over the chunk, in the
            actions' unit) are no negatives of it.

    Returns:
        The loss, the mean energy of the local rows' own actions and that of their negatives (0 if there are none),
        all three attached to the graph. Each has at least float32's precision.

    Raises:
        ValueError: a setting or a shape is wrong on any rank; all ranks raise it.
    """
    ranks = training_ranks(group)
    problem, check = ranks.problem(tau, min_distance, world_size), next_check(energy_model, ranks)
    rows, actions, checksums = exchange(ranks, h, a_pos, pad_mask, problem, check and check.checksum)
    result = rows_against(energy_model, h, a_pos, pad_mask, actions, ranks, rows, tau, min_distance)
    announce(energy_model, ranks, check, len(actions), checksums)
    if check and check.call == 1:
        _warn_of_useless_batches(actions.detach(), rows)
    return result


def rows_against(
    energy_model: nn.Module,
    h: Tensor,
    a_pos: Tensor,
    pad_mask: Tensor | None,
    candidates: Tensor,
    ranks: Ranks,
    rows: list[int],
    tau: float,
    min_distance: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """The weighted loss and mean energies of this rank's rows; ``candidates`` starts with all ranks' actions."""
    if len(h) == 0:
        return idle(energy_model, h, a_pos, pad_mask)
    energies = average_when_done(energy_matrix(energy_model, h, candidates, pad_mask))  # [B, N]
    positive = sum(rows[: ranks.rank]) + torch.arange(len(h), device=h.device)
    dropped = None
    if min_distance > 0:
        dropped = distance(a_pos.unsqueeze(1), candidates.unsqueeze(0)) < min_distance
    losses, e_pos, e_neg = infonce(energies, positive, tau, dropped)
    return losses.sum() * (ranks.size / sum(rows)), e_pos, e_neg


def idle(energy_model: nn.Module, h: Tensor, a_pos: Tensor, pad_mask: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """Zeros for a rank without rows, from a made-up row, so that it has gradients, and a DDP wrapper its forward."""
    shape = 1, max(1, h.shape[1]), h.shape[2]
    mask = None if pad_mask is None else pad_mask.new_zeros(shape[:2])
    with evaluating(energy_model):
        energies = energy_matrix(energy_model, _ramp(shape, h), _ramp((1, *a_pos.shape[1:]), a_pos), mask)
    average_when_done(energies)
    zero = 0 * energies.sum()
    return zero, zero, zero


def _ramp(shape: tuple[int, ...], like: Tensor) -> Tensor:
    """Not zeros, whose norm a model may divide by."""
    return torch.linspace(-1, 1, math.prod(shape)).view(shape).to(like)


def infonce(
    energies: Tensor, positive: Tensor, tau: float, dropped: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Losses [B] of rows of energies [B, N] whose lowest should stand at ``positive`` [B], and the mean energies.

    ``dropped`` [B, N] is True where a candidate is no negative; a row's positive always counts.
    """
    energies = energies.to(torch.promote_types(energies.dtype, torch.float32))
    is_positive = F.one_hot(positive, energies.shape[1]).bool()
    negatives = ~is_positive if dropped is None else ~(is_positive | dropped)
    logits = (-energies / tau).masked_fill(~(negatives | is_positive), -torch.inf)
    losses = F.cross_entropy(logits, positive, reduction="none")
    others = logits.detach().masked_fill(is_positive, -torch.inf).amax(dim=1)
    record(losses, logits.detach()[is_positive] > others, energies.shape[1])  # a tie is no hit
    e_neg = energies.masked_fill(~negatives, 0).sum() / negatives.sum().clamp_min(1)
    return losses, energies[is_positive].mean(), e_neg


def distance(a: Tensor, b: Tensor) -> Tensor:
    """Root mean square over the chunk, [..., H, Da] to [...], in float32 at least."""
    dtype = torch.promote_types(a.dtype, torch.float32)
    return (a.detach().to(dtype) - b.detach().to(dtype)).square().mean(dim=(-2, -1)).sqrt()


def _warn_of_useless_batches(actions: Tensor, rows: list[int]) -> None:
    if len(actions) == 1:
        warnings.warn("energy loss: a row has no negatives, so it is 0 and teaches nothing", stacklevel=3)
    first, *others = torch.split(actions, rows)
    if others and all(first.shape == other.shape and torch.equal(first, other) for other in others):
        warnings.warn("energy loss: all ranks have the same batch; are their data loaders seeded alike?", stacklevel=3)

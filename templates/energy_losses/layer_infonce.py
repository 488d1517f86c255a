"""InfoNCE against made negatives: actions of the policy's earlier layers, noisy and reordered expert actions."""

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor, nn

from .exchange import NOT_FINITE, what_is_not_finite
from .gradients import received_faults, send_fault
from .infonce import Candidates, infonce_loss
from .membership import Ranks, training_ranks

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
    negative_weight: float = 0.25,
    min_distance: float = 0.0,
    generator: torch.Generator | None = None,
    group: dist.ProcessGroup | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """``hybrid_energy_infonce_loss`` on this rank's batch alone: nothing travels.

    Each row meets the other rows of its own batch beside its made negatives: made ones look wrong in any scene, and
    alone would teach next to nothing about this one. With one row they are all there are.

    The loss is the mean over the local rows. So the mean of the ranks' gradients weighs *ranks* equally, as
    ``DistributedDataParallel`` does with the policy's: where rows are uneven, a row of a smaller batch counts more.

    Where a rank's actions are not finite, its results are 0, and the other ranks learn of it with the averaged
    gradients: all raise the same error at the next call, and until then nothing is harmed. (In
    ``DistributedDataParallel`` nothing of this package travels, and that rank alone raises it.) A call waits for the
    device once, for this.

    Arguments and results are those of ``hybrid_energy_infonce_loss``; ``group`` is what the first-step line counts.

    Raises:
        ValueError: a setting or a shape is wrong on this rank; or, on all ranks, an action of any rank was not finite
            in the call before this one.
    """
    members = training_ranks(group)
    several = members.size > 1
    if several:
        _judge_the_last_call(energy_model, members)
    made = MadeNegatives(ground_truth_actions, layer_actions, num_negatives, negative_weight, generator)
    loss, e_pos, e_neg = infonce_loss(
        energy_model,
        context_hidden,
        _finite(ground_truth_actions) if several else ground_truth_actions,
        energy_mask,
        tau,
        min_distance=min_distance,
        group=group,
        all_ranks=False,
        problem=made.problem(),
        others=made.finite_beside if several else made.beside,
    )
    if several:
        fault = what_is_not_finite(ground_truth_actions, made.used_layers)
        send_fault(energy_model, fault)
        loss, e_pos, e_neg = (result * (fault == 0) for result in (loss, e_pos, e_neg))
    return loss, e_pos, e_neg


def _judge_the_last_call(energy_model: nn.Module, ranks: Ranks) -> None:
    for rank, fault in enumerate(received_faults(energy_model, ranks)):
        if fault:
            where = f"rank {rank} of {ranks.size}, in the call before this one"
            raise ValueError(f"energy loss, {where}: {NOT_FINITE[fault]} values that are not finite")


class MadeNegatives(NamedTuple):
    """The second set of candidates: negatives made for each row."""

    expert: Tensor
    layer_actions: Sequence[Tensor]
    number: int
    weight: float
    generator: torch.Generator | None

    def problem(self) -> str:
        """What is wrong with what the negatives are made of, or nothing."""
        if self.number < 1:
            return "num_negatives must be at least 1"
        if not (self.weight > 0 and math.isfinite(self.weight)):
            return "negative_weight must be a positive finite number"
        for index in _layer_indices(len(self.layer_actions))[: self.number]:
            if (shape := self.layer_actions[index].shape) != self.expert.shape:
                return f"layer_actions[{index}] is {[*shape]}, the expert's are {[*self.expert.shape]}"
        return ""

    @property
    def used_layers(self) -> list[Tensor]:
        """Actions of layers that negatives are made of."""
        return [self.layer_actions[index] for index in _layer_indices(len(self.layer_actions))[: max(0, self.number)]]

    def beside(self, actions: Tensor) -> Candidates:
        """Weighed against the other rows' actions, where there are any."""
        made = make_negatives(self.expert, self.layer_actions, self.number, self.generator)
        return Candidates(made, self.weight if len(actions) > 1 else 1.0)

    def finite_beside(self, actions: Tensor) -> Candidates:
        """With zeros in the place of what is not finite."""
        made, weight = self.beside(actions)
        return Candidates(_finite(made), weight)


def _finite(actions: Tensor) -> Tensor:
    return torch.nan_to_num(actions, 0.0, 0.0, 0.0)


@torch.no_grad()
def make_negatives(
    expert: Tensor, layer_actions: Sequence[Tensor], count: int, generator: torch.Generator | None = None
) -> Tensor:
    """The first ``count`` negatives, [B, count, H, Da], for expert actions [B, H, Da].

    In this order: the actions of layers 0, L // 3, L // 2 and L - 2 of L, each once and never the last layer's, whose
    actions are to be good; the expert's with Gaussian noise of standard deviation 0.1, 0.2 and 0.4; the expert's steps
    in another order; and more noise, 0.3 + 0.1 k with k negatives before it.
    """
    return torch.stack(list(itertools.islice(_negatives(expert, layer_actions, generator), count)), dim=1)


def _negatives(expert: Tensor, layer_actions: Sequence[Tensor], generator: torch.Generator | None) -> Iterator[Tensor]:
    layers = _layer_indices(len(layer_actions))
    yield from (layer_actions[index].to(expert) for index in layers)
    yield from (_noisy(expert, sigma, generator) for sigma in _NOISE)
    made = len(layers) + len(_NOISE)
    if expert.shape[1] > 1:
        yield _reordered(expert, generator)
        made += 1
    for k in itertools.count(made):
        yield _noisy(expert, 0.3 + 0.1 * k, generator)


def _layer_indices(layers: int) -> list[int]:
    wanted = dict.fromkeys((0, layers // 3, layers // 2, layers - 2))
    return [index for index in wanted if 0 <= index < layers - 1]


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

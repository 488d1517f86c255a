"""One softmax over all that a row's own action is compared with: the body of every loss in this package."""

import math
import warnings
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from .exchange import exchange
from .membership import ALONE, training_ranks
from .metrics import announce, announce_later, next_check, record
from .ranks import average_when_done
from .scoring import energy_matrix, evaluating


class Candidates(NamedTuple):
    """Actions that rows are compared with: [N, H, Da] shared by all rows, or [B, N, H, Da], each row's own."""

    actions: Tensor
    weight: float = 1.0  # what each counts in the softmax's sum


def infonce_loss(
    energy_model: nn.Module,
    h: Tensor,
    a_pos: Tensor,
    pad_mask: Tensor | None,
    tau: float,
    *,
    min_distance: float,
    group: dist.ProcessGroup | None,
    world_size: int | None = None,
    all_ranks: bool = True,
    problem: str = "",
    others: Callable[[Tensor], Candidates] | None = None,
    layer_actions: Sequence[Tensor] = (),
) -> tuple[Tensor, Tensor, Tensor]:
    """InfoNCE loss of the local rows, [B, S, D] with [B, H, Da], against one or two sets of candidates.

    The first set are the actions of all ranks, [N, H, Da], or with ``all_ranks`` False of this rank's own batch, where
    nothing travels. ``others`` gets them and gives the second set, which ``layer_actions`` are what it is made of.
    ``problem`` is what is wrong with a loss's own settings, in one short line, and the other arguments, the results and
    the errors are those of the losses.
    """
    members = training_ranks(group)
    ranks = members if all_ranks else ALONE
    check = next_check(energy_model, members)
    problem = problem or ranks.problem(tau, min_distance, world_size)
    rows, actions, checksums = exchange(ranks, h, a_pos, pad_mask, problem, check and check.checksum, layer_actions)
    sets = [Candidates(actions)] if others is None else [Candidates(actions), others(actions)]
    if len(h):
        own = sum(rows[: ranks.rank]) + torch.arange(len(h), device=h.device)
        losses, e_pos, e_neg = _row_losses(energy_model, h, a_pos, pad_mask, sets, own, tau, min_distance)
        result = losses.sum() * (ranks.size / sum(rows)), e_pos, e_neg
    else:
        result = _idle(energy_model, h, a_pos, pad_mask)
    count = sum(candidates.actions.shape[-3] for candidates in sets)
    if all_ranks:
        announce(energy_model, ranks, check, count, checksums)
    else:
        announce_later(energy_model, members, check, count)
    if check and check.call == 1:
        _warn_of_useless_batches(actions.detach(), rows, others is None)
    return result


def _row_losses(
    energy_model: nn.Module,
    h: Tensor,
    a_pos: Tensor,
    pad_mask: Tensor | None,
    sets: list[Candidates],
    own: Tensor,
    tau: float,
    min_distance: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """Losses [B], and the mean energies of the rows' own actions, at columns ``own`` [B], and of their negatives."""
    candidates = _joined([candidates.actions for candidates in sets], len(h))
    energies = average_when_done(energy_matrix(energy_model, h, candidates, pad_mask))  # [B, N]
    energies = energies.to(torch.promote_types(energies.dtype, torch.float32))
    is_own = torch.arange(energies.shape[1], device=own.device) == own.unsqueeze(1)
    negatives = ~is_own
    if min_distance > 0:
        negatives &= _distance(a_pos.unsqueeze(1), candidates) >= min_distance
    weights = torch.cat([energies.new_full((c.actions.shape[-3],), c.weight) for c in sets])
    logits = (weights.log() - energies / tau).masked_fill(~(negatives | is_own), -torch.inf)
    losses = F.cross_entropy(logits, own, reduction="none")
    e_own = energies.gather(1, own.unsqueeze(1))  # [B, 1]; no boolean index, which would wait for the device
    record(losses, energies, e_own, negatives, tau, math.log(sum(c.weight * c.actions.shape[-3] for c in sets)))
    e_neg = energies.masked_fill(~negatives, 0).sum() / negatives.sum().clamp_min(1)
    return losses, e_own.mean(), e_neg


def _joined(parts: list[Tensor], rows: int) -> Tensor:
    """Candidates one after the other: [N, H, Da] if all rows share all of them, else [B, N, H, Da].

    So one pass scores them all, and each context is encoded once.
    """
    if any(part.dim() == 4 for part in parts):
        return torch.cat([part if part.dim() == 4 else part.expand(rows, -1, -1, -1) for part in parts], dim=1)
    return torch.cat(parts)


def _distance(a: Tensor, b: Tensor) -> Tensor:
    """Root mean square over the chunk, [..., H, Da] to [...], in float32 at least."""
    dtype = torch.promote_types(a.dtype, torch.float32)
    return (a.detach().to(dtype) - b.detach().to(dtype)).square().mean(dim=(-2, -1)).sqrt()


def _idle(energy_model: nn.Module, h: Tensor, a_pos: Tensor, pad_mask: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
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


def _warn_of_useless_batches(actions: Tensor, rows: list[int], no_others: bool) -> None:
    if no_others and len(actions) == 1:
        warnings.warn("energy loss: a row has no negatives, so it is 0 and teaches nothing", stacklevel=4)
    first, *others = torch.split(actions, rows)
    if others and all(first.shape == other.shape and torch.equal(first, other) for other in others):
        warnings.warn("energy loss: all ranks have the same batch; are their data loaders seeded alike?", stacklevel=4)

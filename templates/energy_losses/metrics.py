"""What a user sees while training: one line at the first step, and the figures of the latest call."""

import math
import weakref
from typing import TypedDict

import torch
from torch import Tensor, nn

from .ranks import Ranks, unwrapped, weights_checksum
from .scoring import is_folded


class Metrics(TypedDict, total=False):
    """Figures of one call, which compare across batch sizes and numbers of ranks.

    ``top1`` is the share of this rank's rows whose own action has the lowest energy of all candidates (chance is
    1 / ``candidates``). ``loss_over_log_n`` is their mean loss over the loss of guessing, ln ``candidates``.
    """

    top1: Tensor
    candidates: int
    loss_over_log_n: Tensor


_latest = Metrics()
_announced: "weakref.WeakSet[nn.Module]" = weakref.WeakSet()


def latest_metrics() -> Metrics:
    """The figures of the last call of a loss, as detached tensors; empty before the first call."""
    return _latest.copy()


def record(row_losses: Tensor, hits: Tensor, candidates: int) -> None:
    """Keep the figures of a call: losses and hits [B]. They stay on the device, so that no step waits for it."""
    _latest["top1"] = hits.detach().float().mean()
    _latest["candidates"] = candidates
    _latest["loss_over_log_n"] = row_losses.detach().mean() / math.log(max(candidates, 2))


def first_checksum(energy_model: nn.Module) -> int | None:
    """The weights' checksum at a model's first training call, and nothing at later ones."""
    model = unwrapped(energy_model)
    if not torch.is_grad_enabled() or model in _announced:
        return None
    _announced.add(model)
    return weights_checksum(model)


def announce(energy_model: nn.Module, ranks: Ranks, candidates: int, weights_equal: bool) -> None:
    """Print one line about the first step on rank 0."""
    if ranks.rank == 0:
        weights = (
            "equal" if weights_equal else "DIFFERENT (is broadcast_parameters called, with its gradients averaged?)"
        )
        scoring = "folded" if is_folded(energy_model) else "plain"
        print(
            f"energy_losses: ranks {ranks.size}, candidates per row {candidates}, scoring {scoring}, "
            f"weights on the ranks {weights}",
            flush=True,
        )

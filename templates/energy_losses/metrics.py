"""What a user sees while training: one line at the first step, and the figures of the latest call."""

import math
import warnings
import weakref
from functools import partial
from typing import NamedTuple, TypedDict

import torch
from torch import Tensor, nn

from .ranks import Ranks, compare_with_gradients, unwrapped, weights_checksum
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
_calls: "weakref.WeakKeyDictionary[nn.Module, int]" = weakref.WeakKeyDictionary()


def latest_metrics() -> Metrics:
    """The figures of the last call of a loss, as detached tensors; empty before the first call."""
    return _latest.copy()


def record(row_losses: Tensor, hits: Tensor, candidates: int) -> None:
    """Keep the figures of a call: losses and hits [B]. They stay on the device, so that no step waits for it."""
    _latest["top1"] = hits.detach().float().mean()
    _latest["candidates"] = candidates
    _latest["loss_over_log_n"] = row_losses.detach().mean() / math.log(max(candidates, 2))


class Check(NamedTuple):
    """A training call at which the ranks compare their weights: the first, the 10th, the 100th, ... of a model."""

    call: int
    checksum: Tensor | None  # None on one rank, and where the weights are in shards


def next_check(energy_model: nn.Module, ranks: Ranks) -> Check | None:
    """Count a call; what the ranks compare at this one, if they do."""
    if not torch.is_grad_enabled():
        return None
    model = unwrapped(energy_model)
    call = _calls[model] = _calls.get(model, 0) + 1
    if str(call).strip("0") != "1":
        return None
    return Check(call, weights_checksum(model) if ranks.size > 1 else None)


def announce(energy_model: nn.Module, ranks: Ranks, check: Check | None, candidates: int, checksums: list[int]) -> None:
    """Say on rank 0, at a call where the ranks compare their weights, whether all have sent the same checksum."""
    if check is not None:
        compared = ranks.size == 1 or bool(checksums)
        _say(ranks, check.call, _line(energy_model, ranks, candidates), len(set(checksums)) <= 1 if compared else None)


def announce_later(energy_model: nn.Module, ranks: Ranks, check: Check | None, candidates: int) -> None:
    """``announce`` of a loss that exchanges nothing: its checksum travels with the averaged gradients."""
    if check is not None:
        then = partial(_say, ranks, check.call, _line(energy_model, ranks, candidates))
        if check.checksum is None or not compare_with_gradients(energy_model, check.checksum, then):
            then(True if ranks.size == 1 else None)


def _line(energy_model: nn.Module, ranks: Ranks, candidates: int) -> str:
    scoring = "folded" if is_folded(energy_model) else "plain"
    return f"energy_losses: ranks {ranks.size}, candidates per row {candidates}, scoring {scoring}"


def _say(ranks: Ranks, call: int, line: str, equal: bool | None) -> None:
    if ranks.rank > 0:
        return
    if call == 1:
        print(f"{line}, weights on the ranks {_VERDICTS[equal]}", flush=True)
    elif equal and call == 10:
        print("energy_losses: call 10, weights on the ranks still equal", flush=True)
    elif equal is False:
        warnings.warn(f"energy_losses: call {call}, weights on the ranks {_VERDICTS[False]}", stacklevel=2)


_VERDICTS = {
    True: "equal",
    False: "DIFFERENT (is replicate(energy_model) called before every call of the loss, on every rank?)",
    None: "not compared (in DistributedDataParallel or in shards? Otherwise: is replicate(energy_model) called?)",
}

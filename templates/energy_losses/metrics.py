"""What a user sees while training: one line at the first step, and the figures of the latest call."""

import warnings
import weakref
from functools import partial
from typing import NamedTuple, TypedDict

import torch
from torch import Tensor, nn

from .gradients import compare_with_gradients, is_averaged
from .membership import Ranks, unwrapped
from .scoring import materialised
from .weights import weights_checksum


class Metrics(TypedDict, total=False):
    """Figures of one call, which compare across batch sizes and numbers of ranks; means over this rank's rows.

    ``top1`` is the share of rows whose own action has the lowest energy of all candidates (chance is
    1 / ``candidates``). ``loss_over_log_n`` is the loss over that of guessing: ln ``candidates``, where each counts
    with its weight. ``margin`` is how far the lowest negative lies above the own action, and ``spread`` the standard
    deviation of a row's energies, both in units of the temperature: a spread well below 1 says that it is too warm to
    tell candidates apart.
    """

    top1: Tensor
    candidates: int
    loss_over_log_n: Tensor
    margin: Tensor
    spread: Tensor


_latest = Metrics()
_calls: "weakref.WeakKeyDictionary[nn.Module, int]" = weakref.WeakKeyDictionary()


def latest_metrics() -> Metrics:
    """The figures of the last call of a loss, as detached tensors; empty before the first call."""
    return _latest.copy()


@torch.no_grad()
def record(losses: Tensor, energies: Tensor, own: Tensor, negatives: Tensor, tau: float, guessing: float) -> None:
    """Keep the figures of a call; they stay on the device, so that no step waits for it.

    losses [B], energies [B, N], those of the rows' own actions [B, 1], which of them are negatives [B, N], and the loss
    of guessing.
    """
    lowest = energies.masked_fill(~negatives, torch.inf).amin(dim=1, keepdim=True)
    has_negatives = negatives.any(dim=1, keepdim=True)
    margins = torch.where(has_negatives, lowest - own, 0)
    count = 1 + negatives.sum(dim=1, keepdim=True)
    away = (energies - own).masked_fill(~negatives, 0)  # the own action's is 0
    variance = away.square().sum(dim=1, keepdim=True) / count - (away.sum(dim=1, keepdim=True) / count).square()
    _latest["top1"] = (own < lowest).float().mean()  # a tie is no hit
    _latest["candidates"] = energies.shape[1]
    _latest["loss_over_log_n"] = losses.mean() / (guessing or 1)
    _latest["margin"] = margins.sum() / has_negatives.sum().clamp_min(1) / tau
    _latest["spread"] = variance.clamp_min(0).sqrt().mean() / tau


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
        if check.checksum is not None and is_averaged(energy_model):
            compare_with_gradients(energy_model, check.checksum, then)
        else:
            then(True if ranks.size == 1 else None)


def _line(energy_model: nn.Module, ranks: Ranks, candidates: int) -> str:
    operations = ", ".join(materialised(energy_model))
    repeated = f", materialised for all pairs: {operations}" if operations else ""
    return f"energy_losses: ranks {ranks.size}, candidates per row {candidates}{repeated}"


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

"""The mean of the ranks' gradients, and what travels with it for a loss that exchanges nothing."""

import weakref
from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor, nn

from .collectives import add_up, transport
from .membership import Ranks, are_sharded, has_ddp, members, sharded_error, unwrapped


@torch.no_grad()
def average_gradients(energy_model: nn.Module, *, group: dist.ProcessGroup | None = None) -> None:
    """Replace each gradient by its mean over the ranks.

    ``replicate`` does it at the end of every backward pass; in a loop without it, call this once per optimizer step,
    before the clip. A gradient that is missing on some ranks counts as zero there; one that is missing on all stays
    ``None``, since an optimizer with weight decay would move its parameter otherwise. Does nothing on one rank or for a
    ``DistributedDataParallel`` model. Does not wait for the device, but once where a gradient is missing on this rank,
    which must know whether another rank has one before the optimizer steps, and once where checksums are compared.

    Raises:
        ValueError: the model has sharded parameters.
    """
    ranks = members(group)
    if ranks.size == 1 or has_ddp(energy_model):
        return
    parameters = list(energy_model.parameters())  # once: on a small model, to look for them takes as long as the rest
    if are_sharded(parameters):
        raise sharded_error(ranks.rank)
    by_dtype: dict[torch.dtype, list[nn.Parameter]] = {}
    for parameter in parameters:
        if parameter.requires_grad:
            # 16-bit gradients are summed in float32: precise, and every backend can do it.
            by_dtype.setdefault(torch.promote_types(parameter.dtype, torch.float32), []).append(parameter)
    model = unwrapped(energy_model)
    _averaged.add(model)
    for place, (dtype, together) in enumerate(by_dtype.items()):
        device = transport(ranks, together[0].device)
        behind = _outgoing(model, ranks, device).to(dtype) if place == 0 else torch.zeros(0, dtype=dtype, device=device)
        sums = _average(ranks, together, behind)
        if place == 0:
            _arrived(model, ranks, behind, sums)


def _average(ranks: Ranks, parameters: list[nn.Parameter], behind: Tensor) -> Tensor:
    """One flat all-reduce: all gradients, a 1 for each that this rank has, and numbers ``behind``, whose sums return.

    The numbers lie where the message must, in its dtype.
    """
    missing = [place for place, parameter in enumerate(parameters) if parameter.grad is None]
    present = behind.new_ones(len(parameters))
    for place in missing:
        present[place] = 0
    grads = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
    flat = torch.cat([*[grad.to(behind).flatten() for grad in grads], present, behind])
    add_up(ranks, flat)
    *sums, shares, sums_behind = torch.split(flat, [*[g.numel() for g in grads], len(present), len(behind)])
    if missing:
        has_any = shares.tolist()
        missing = [place for place in missing if has_any[place] == 0]
    flat[: flat.numel() - len(present) - len(behind)].div_(ranks.size)
    for place, (parameter, grad, mean) in enumerate(zip(parameters, grads, sums, strict=True)):
        if place not in missing:
            parameter.grad = grad.copy_(mean.view_as(grad))
    return sums_behind


class _Check(NamedTuple):
    checksum: Tensor
    then: Callable[[bool | None], None]


_averaged: "weakref.WeakSet[nn.Module]" = weakref.WeakSet()  # models whose gradients this package averages
_checks: "weakref.WeakKeyDictionary[nn.Module, _Check]" = weakref.WeakKeyDictionary()
_faults: "weakref.WeakKeyDictionary[nn.Module, Tensor]" = weakref.WeakKeyDictionary()  # of this rank, to be sent
_faults_of_ranks: "weakref.WeakKeyDictionary[nn.Module, Tensor]" = weakref.WeakKeyDictionary()  # [W]
_DIGIT_BITS = 12  # sums of so small numbers are exact in float32


def will_be_averaged(energy_model: nn.Module) -> None:
    """Say so before the first time."""
    _averaged.add(unwrapped(energy_model))


def is_averaged(energy_model: nn.Module) -> bool:
    """Whether anything can travel with the model's gradients."""
    return not has_ddp(energy_model) and unwrapped(energy_model) in _averaged


def compare_with_gradients(energy_model: nn.Module, checksum: Tensor, then: Callable[[bool | None], None]) -> None:
    """Let a checksum travel with the model's next averaged gradients.

    ``then`` hears whether all ranks sent the same, or None if some sent none.
    """
    _checks[unwrapped(energy_model)] = _Check(checksum, then)


def send_fault(energy_model: nn.Module, fault: Tensor) -> None:
    """Let some bits, none set if all is well, travel with the model's next averaged gradients."""
    model = unwrapped(energy_model)
    _faults[model] = fault | _faults[model] if model in _faults else fault


def received_faults(energy_model: nn.Module, ranks: Ranks) -> list[int]:
    """What each rank has sent since the last call of this; this rank's own where nothing can travel.

    Waits for what the device had to do before this call.
    """
    model = unwrapped(energy_model)
    faults = _faults_of_ranks.pop(model, None)
    if faults is None and not is_averaged(energy_model) and model in _faults:
        faults = _in_place_of(ranks, _faults.pop(model))
    return [] if faults is None else [int(fault) for fault in faults.tolist()]


def _in_place_of(ranks: Ranks, fault: Tensor) -> Tensor:
    faults = torch.zeros(ranks.size, dtype=torch.int64, device=fault.device)
    faults[ranks.rank] = fault
    return faults


def _outgoing(model: nn.Module, ranks: Ranks, device: torch.device) -> Tensor:
    """A 1 and the checksum's digits, or zeros where this rank sends none; and each rank's fault."""
    digits = torch.zeros(5, dtype=torch.int64, device=device)
    if check := _checks.get(model):
        places = torch.arange(0, 4 * _DIGIT_BITS, _DIGIT_BITS, device=device)
        digits = torch.cat([torch.ones_like(digits[:1]), (check.checksum.to(device) >> places) % 2**_DIGIT_BITS])
    fault = _faults.pop(model, None)
    return torch.cat([digits, _in_place_of(ranks, digits.new_zeros(()) if fault is None else fault.to(device))])


def _arrived(model: nn.Module, ranks: Ranks, sent: Tensor, sums: Tensor) -> None:
    faults = sums[5:].real.clone()  # not a view of all the gradients
    _faults_of_ranks[model] = faults + _faults_of_ranks[model] if model in _faults_of_ranks else faults
    if check := _checks.pop(model, None):
        all_sent, *same = (sums[:5] == ranks.size * sent[:5]).tolist()
        check.then(all(same) if all_sent else None)

"""What travels between the ranks: every collective of this package is in this file.

A rank trains alone, and issues no collective, without a process group or with gradients disabled: validation may
run a different number of batches on each rank.
"""

import math
from itertools import chain
from typing import NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

_FLOATS = (torch.float64, torch.float32, torch.bfloat16, torch.float16)


class Ranks(NamedTuple):
    """The ranks whose batches count as one in this call, and this rank's place among them."""

    rank: int
    size: int
    group: dist.ProcessGroup | None
    connected: bool  # False without a process group or with gradients disabled

    def problem(self, tau: float, min_distance: float, world_size: int | None) -> str:
        """What is wrong with a loss's settings, or nothing."""
        if not (tau > 0 and math.isfinite(tau)):
            return "tau must be a positive finite number"
        if not (min_distance >= 0 and math.isfinite(min_distance)):
            return "min_distance must be a finite number, zero or above"
        if self.connected and world_size not in (None, self.size):
            return "world_size contradicts the process group"
        return ""


ALONE = Ranks(0, 1, None, False)


def training_ranks(group: dist.ProcessGroup | None = None) -> Ranks:
    """The ranks of ``group`` (default: all) if gradients are enabled and there is a group, else this rank alone."""
    return _members(group) if torch.is_grad_enabled() else ALONE


def _members(group: dist.ProcessGroup | None) -> Ranks:
    if not (dist.is_available() and dist.is_initialized()):
        return ALONE
    rank = dist.get_rank(group)
    if rank < 0:
        raise ValueError("this process is not a member of the process group that it was given")
    return Ranks(rank, dist.get_world_size(group), group, True)


def unwrapped(energy_model: nn.Module) -> nn.Module:
    """The user's own module inside ``torch.compile`` and ``DistributedDataParallel``."""
    while isinstance(energy_model, DistributedDataParallel) or hasattr(energy_model, "_orig_mod"):
        inner = "module" if isinstance(energy_model, DistributedDataParallel) else "_orig_mod"
        energy_model = getattr(energy_model, inner)
    return energy_model


def gather_integers(ranks: Ranks, values: list[int], device: torch.device) -> list[list[int]]:
    """Every rank's ``values``, a list of the same length on each, in rank order."""
    if ranks.size == 1:
        return [values]
    mine = torch.tensor(values, dtype=torch.int64, device=_transport(ranks, device))
    parts = [torch.empty_like(mine) for _ in range(ranks.size)]
    dist.all_gather(parts, mine, group=ranks.group)
    return torch.stack(parts).tolist()


def exchange_rows(
    ranks: Ranks, h: Tensor, a_pos: Tensor, pad_mask: Tensor | None, problem: str, checksum: int | None = None
) -> tuple[list[int], bool]:
    """Rows of each rank's batch, from one small header per rank, and whether all checksums sent are one number.

    The header holds all that can be wrong, and every rank judges every header: where one rank's input is bad, all
    raise the same ``ValueError`` at once instead of waiting for it. ``problem`` is what a loss finds wrong with its
    settings, in one short line. The weights' checksum travels here too: a message of its own, at a call that some rank
    has missed, would meet another rank's next message.
    """
    shapes = [h.shape, a_pos.shape, () if pad_mask is None else pad_mask.shape]
    dtype = _FLOATS.index(a_pos.dtype) if a_pos.dtype in _FLOATS else -1
    header = [dtype]
    for shape in shapes:
        header += [len(shape), *shape[:3], *[0] * (3 - len(shape))]
    headers = gather_integers(ranks, [*header, *_packed(problem), -1 if checksum is None else checksum], a_pos.device)
    for rank, values in enumerate(headers):
        wrong = _what_is_wrong(values, headers[0])
        if wrong:
            where = f", rank {rank} of {ranks.size}" if ranks.size > 1 else ""
            raise ValueError(f"energy loss{where}: {wrong}")
    checksums = {values[-1] for values in headers} - {-1}
    return [values[6] for values in headers], len(checksums) <= 1


def _what_is_wrong(header: list[int], first: list[int]) -> str:
    dtype, *sizes = header
    h, a_pos, pad_mask = (sizes[i + 1 : i + 1 + min(3, sizes[i])] for i in (0, 4, 8))
    seen = f"h {h}, a_pos {a_pos}" + (f", pad_mask {pad_mask}" if pad_mask else "")
    if problem := _unpacked(sizes[12:-1]):
        return problem
    if sizes[0] != 3 or sizes[4] != 3 or sizes[8] not in (0, 2):
        return f"expected h [B, S, D], a_pos [B, H, Da] and pad_mask [B, S]; got {seen}"
    if h[0] != a_pos[0] or (pad_mask and pad_mask[0] != h[0]):
        return f"the batch sizes differ: {seen}"
    if dtype < 0:
        return f"a_pos must be a floating point tensor; {seen}"
    if [dtype, *a_pos[1:]] != [first[0], *first[7:9]]:
        theirs = f"a_pos [*, {first[7]}, {first[8]}] of {_FLOATS[first[0]]}"
        return f"{seen} of {_FLOATS[dtype]}, but rank 0 has {theirs}"
    return ""


def _packed(line: str) -> list[int]:
    """A line of up to 70 bytes as 10 numbers, so that it can travel with the others."""
    raw = line.encode()[:70].ljust(70, b"\0")
    return [int.from_bytes(raw[start : start + 7], "big") for start in range(0, 70, 7)]


def _unpacked(values: list[int]) -> str:
    return b"".join(value.to_bytes(7, "big") for value in values).rstrip(b"\0").decode(errors="ignore")


def gather_actions(ranks: Ranks, a_pos: Tensor, rows: list[int]) -> Tensor:
    """The actions of all ranks, [sum(rows), H, Da], in rank order.

    Other ranks' actions are constants; this rank's own keep their graph, as in a loss without ranks.
    """
    if ranks.size == 1:
        return a_pos
    # 16-bit numbers travel as float32: exact both ways, and every backend can carry them.
    mine = a_pos.detach().to(_transport(ranks, a_pos.device), torch.promote_types(a_pos.dtype, torch.float32))
    padded = mine.new_zeros(max(rows), *a_pos.shape[1:])
    padded[: len(mine)] = mine
    parts = [torch.empty_like(padded) for _ in rows]
    dist.all_gather(parts, padded, group=ranks.group)
    actions = [part[:count].to(a_pos.device, a_pos.dtype) for part, count in zip(parts, rows, strict=True)]
    actions[ranks.rank] = a_pos
    return torch.cat(actions)


def weights_checksum(energy_model: nn.Module) -> int:
    """A number that differs where a parameter's bytes do."""
    return sum(
        place * int(_bytes(parameter).sum(dtype=torch.int64))
        for place, parameter in enumerate(energy_model.parameters(), start=1)
    )


def broadcast_parameters(energy_model: nn.Module, *, group: dist.ProcessGroup | None = None) -> None:
    """Give every rank rank 0's parameters and buffers, bit for bit; call it before the optimiser is made.

    Does nothing on one rank or for a ``DistributedDataParallel`` model. Raises ``ValueError`` on every rank if the
    models differ in size.
    """
    ranks = _members(group)
    if ranks.size == 1 or _has_ddp(energy_model):
        return
    tensors = list(chain(energy_model.parameters(), energy_model.buffers()))
    if not tensors:
        return
    flat = torch.cat([_bytes(tensor) for tensor in tensors])  # as bytes, all dtypes travel in one message
    sizes = [size for (size,) in gather_integers(ranks, [len(flat)], flat.device)]
    if len(set(sizes)) > 1:
        raise ValueError(f"the ranks' energy models differ in size: {sizes} bytes")
    wire = flat.to(_transport(ranks, flat.device))
    dist.broadcast(wire, src=0 if group is None else dist.get_global_rank(group, 0), group=group)
    received = wire.to(flat.device)
    with torch.no_grad():
        for tensor, part in zip(tensors, torch.split(received, [len(_bytes(t)) for t in tensors]), strict=True):
            # A clone starts at an aligned address, which a view in a wider dtype needs.
            tensor.copy_(part.clone().view(tensor.dtype).view(tensor.shape))


@torch.no_grad()
def average_gradients(energy_model: nn.Module, *, group: dist.ProcessGroup | None = None) -> None:
    """Replace each gradient by its mean over the ranks; call it once per optimiser step, before the clip.

    A gradient that is missing on some ranks counts as zero there; one that is missing on all stays ``None``, since
    an optimiser with weight decay would move its parameter otherwise. Does nothing on one rank or for a
    ``DistributedDataParallel`` model.
    """
    ranks = _members(group)
    if ranks.size == 1 or _has_ddp(energy_model):
        return
    by_dtype: dict[torch.dtype, list[nn.Parameter]] = {}
    for parameter in energy_model.parameters():
        if parameter.requires_grad:
            # 16-bit gradients are summed in float32: precise, and every backend can do it.
            by_dtype.setdefault(torch.promote_types(parameter.dtype, torch.float32), []).append(parameter)
    for dtype, parameters in by_dtype.items():
        _average(ranks, dtype, parameters)


def _average(ranks: Ranks, dtype: torch.dtype, parameters: list[nn.Parameter]) -> None:
    """One flat all-reduce: all gradients, then a 1 for each that this rank has."""
    device = parameters[0].device
    present = [parameter.grad is not None for parameter in parameters]
    grads = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
    flags = torch.tensor(present, dtype=dtype, device=device)
    flat = torch.cat([*[grad.to(dtype).flatten() for grad in grads], flags])
    flat = flat.to(_transport(ranks, device))
    dist.all_reduce(flat, group=ranks.group)
    flat = flat.to(device).div_(ranks.size)
    # Where this rank has every gradient, no flag needs to be read back from the device.
    found = present if all(present) else (flat[-len(parameters) :] > 0).tolist()
    means = torch.split(flat[: -len(parameters)], [parameter.numel() for parameter in parameters])
    for parameter, grad, mean, is_found in zip(parameters, grads, means, found, strict=True):
        if is_found:
            parameter.grad = grad.copy_(mean.view_as(grad))


def _has_ddp(energy_model: nn.Module) -> bool:
    return isinstance(getattr(energy_model, "_orig_mod", energy_model), DistributedDataParallel)


def _bytes(tensor: Tensor) -> Tensor:
    return tensor.detach().contiguous().reshape(-1).view(torch.uint8)


def _transport(ranks: Ranks, device: torch.device) -> torch.device:
    """Where a message must lie: gloo carries CPU tensors, the other backends those of the device."""
    return torch.device("cpu") if dist.get_backend(ranks.group) == "gloo" else device

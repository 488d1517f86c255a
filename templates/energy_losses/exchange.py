"""Rows and actions of all ranks' batches, and errors that reach every rank."""

import math
import weakref
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor

from .collectives import gather, transport, uploaded
from .membership import Ranks

_FLOATS = (torch.float64, torch.float32, torch.bfloat16, torch.float16)


class Exchange(NamedTuple):
    """What every rank knows of all ranks' batches after a call's exchange."""

    rows: list[int]  # of each rank
    actions: Tensor  # of all ranks in rank order, [sum(rows), H, Da]
    checksums: list[int]  # of the weights of each rank that sent one


def exchange(
    ranks: Ranks,
    h: Tensor,
    a_pos: Tensor,
    pad_mask: Tensor | None,
    problem: str,
    checksum: Tensor | None = None,
    layer_actions: Sequence[Tensor] = (),
) -> Exchange:
    """Rows and actions of each rank's batch: one collective, and one wait for the device, in most calls.

    A small header of each rank holds all that can be wrong, and every rank judges every header: where one rank's input
    is bad, all raise the same ``ValueError`` at once instead of waiting for it. ``problem`` is what a loss finds wrong
    with its settings, in one short line, and ``layer_actions`` are what else must be finite. The actions travel behind
    the header if they fit where the last call's did, on all ranks, which every rank can tell from the headers;
    otherwise they follow in a second collective. The weights' checksum travels here too: a message of its own, at a
    call that some rank has missed, would meet another message.

    Other ranks' actions are constants; this rank's own keep their graph, as in a loss without ranks. On one rank, only
    shapes and ``problem`` are judged.

    Raises:
        ValueError: something is wrong on any rank; all ranks raise it.
    """
    header = _header(h, a_pos, pad_mask, problem)
    if ranks.size == 1:
        _judge([[*header, 0, _NO_CHECKSUM]], 1)
        return Exchange([len(h)], a_pos, [])
    device = transport(ranks, a_pos.device)
    numbers = uploaded(header, device)
    fault = what_is_not_finite(a_pos, layer_actions).to(device)
    checksum = fault.new_full((), _NO_CHECKSUM) if checksum is None else checksum.to(device)
    slot = _slots.get(_group(ranks), _NO_SLOT)
    gathered = gather(ranks, torch.cat([numbers, fault.view(1), checksum.view(1), slot.filled(a_pos, device)]))
    headers = gathered[:, : len(header) + 2].tolist()
    _judge(headers, ranks.size)
    rows = [values[6] for values in headers]
    if not (slot.takes(a_pos) and max(rows) <= slot.rows):
        slot = _Slot(max(1, *rows), a_pos.shape[1:], a_pos.dtype)
        gathered = gather(ranks, slot.filled(a_pos, device))
    _slots[_group(ranks)] = slot._replace(rows=max(1, *rows))
    actions = slot.emptied(gathered, rows, a_pos.device)
    actions[ranks.rank] = a_pos
    checksums = [values[-1] for values in headers if values[-1] != _NO_CHECKSUM]
    return Exchange(rows, torch.cat(actions), checksums)


_NO_CHECKSUM = -1
NOT_FINITE = ("", "a_pos has", "layer_actions have", "a_pos and layer_actions have")  # values that are not finite


def what_is_not_finite(a_pos: Tensor, layer_actions: Sequence[Tensor]) -> Tensor:
    """A place in ``NOT_FINITE``, on the device, so that no one waits for it."""
    fault = (~a_pos.detach().isfinite().all()).to(torch.int64)
    for actions in layer_actions:
        fault = fault | (~actions.detach().isfinite().all()).to(fault) * 2
    return fault


class _Slot(NamedTuple):
    """A place in a message of int64 for the actions of a batch, bit for bit whatever their dtype."""

    rows: int
    chunk: tuple[int, ...]  # [H, Da]
    dtype: torch.dtype

    def takes(self, a_pos: Tensor) -> bool:
        return len(a_pos) <= self.rows and a_pos.shape[1:] == self.chunk and a_pos.dtype == self.dtype

    @property
    def length(self) -> int:
        """In numbers of int64."""
        return -(-self.rows * math.prod(self.chunk) * self.dtype.itemsize // 8)

    def filled(self, a_pos: Tensor, device: torch.device) -> Tensor:
        message = torch.zeros(self.length, dtype=torch.int64, device=device)
        if self.takes(a_pos):
            message.view(self.dtype)[: a_pos.numel()] = a_pos.detach().flatten()
        return message

    def emptied(self, gathered: Tensor, rows: list[int], device: torch.device) -> list[Tensor]:
        """Each rank's actions, from the end of its message."""
        numbers = gathered[:, gathered.shape[1] - self.length :].view(self.dtype).to(device)
        width = math.prod(self.chunk)
        return [row[: count * width].view(count, *self.chunk) for row, count in zip(numbers, rows, strict=True)]


_NO_SLOT = _Slot(0, (0, 0), torch.float32)
_slots: "weakref.WeakKeyDictionary[dist.ProcessGroup, _Slot]" = weakref.WeakKeyDictionary()  # of each group's last call


def _group(ranks: Ranks) -> dist.ProcessGroup:
    return ranks.group or dist.distributed_c10d._get_default_group()


def _header(h: Tensor, a_pos: Tensor, pad_mask: Tensor | None, problem: str) -> list[int]:
    header = [_FLOATS.index(a_pos.dtype) if a_pos.dtype in _FLOATS else -1]
    for shape in (h.shape, a_pos.shape, () if pad_mask is None else pad_mask.shape):
        header += [len(shape), *shape[:3], *[0] * (3 - len(shape))]
    return header + _packed(problem)


def _judge(headers: list[list[int]], world: int) -> None:
    for rank, header in enumerate(headers):
        if wrong := _what_is_wrong(header, headers[0]):
            where = f", rank {rank} of {world}" if world > 1 else ""
            raise ValueError(f"energy loss{where}: {wrong}")


def _what_is_wrong(header: list[int], first: list[int]) -> str:
    dtype, *sizes, fault, _ = header
    h, a_pos, pad_mask = (sizes[i + 1 : i + 1 + min(3, sizes[i])] for i in (0, 4, 8))
    seen = f"h {h}, a_pos {a_pos}" + (f", pad_mask {pad_mask}" if pad_mask else "")
    if problem := _unpacked(sizes[12:]):
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
    return f"{NOT_FINITE[fault]} values that are not finite" if fault else ""


def _packed(line: str) -> list[int]:
    """A line of up to 70 bytes as 10 numbers, so that it can travel with the others."""
    raw = line.encode()[:70].ljust(70, b"\0")
    return [int.from_bytes(raw[start : start + 7], "big") for start in range(0, 70, 7)]


def _unpacked(values: list[int]) -> str:
    return b"".join(value.to_bytes(7, "big") for value in values).rstrip(b"\0").decode(errors="ignore")

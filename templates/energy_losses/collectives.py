"""What travels between the ranks: every collective of this package is in this file."""

import torch
import torch.distributed as dist
from torch import Tensor

from .membership import Ranks


def transport(ranks: Ranks, device: torch.device) -> torch.device:
    """Where a message must lie: gloo carries CPU tensors, NCCL those of the current CUDA device."""
    backend = dist.get_backend(ranks.group)
    if backend == "nccl" and device.type == "cpu":
        return torch.device("cuda", torch.cuda.current_device())
    return torch.device("cpu") if backend == "gloo" else device


def uploaded(values: list[int], device: torch.device) -> Tensor:
    """The values on the device, without a wait for it, as ``torch.tensor(values, device=device)`` would take."""
    return torch.tensor(values).to(device, non_blocking=True)


def gather(ranks: Ranks, mine: Tensor) -> Tensor:
    """[W, n], a row of each rank's numbers [n], which must lie where ``transport`` says."""
    parts = mine.new_empty(ranks.size, len(mine))
    dist.all_gather(list(parts), mine, group=ranks.group)
    return parts


def gather_integers(ranks: Ranks, values: list[int], device: torch.device) -> list[list[int]]:
    """Every rank's ``values``, a list of the same length on each, in rank order. Waits for the device."""
    if ranks.size == 1:
        return [values]
    return gather(ranks, uploaded(values, transport(ranks, device))).tolist()


def broadcast(ranks: Ranks, message: Tensor) -> None:
    """The group's first rank's ``message``, in place, to all."""
    source = 0 if ranks.group is None else dist.get_global_rank(ranks.group, 0)
    dist.broadcast(message, src=source, group=ranks.group)


def add_up(ranks: Ranks, message: Tensor) -> None:
    """The sum of the ranks' messages, in place."""
    dist.all_reduce(message, group=ranks.group)

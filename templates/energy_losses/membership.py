"""The ranks that train together, and whether something else keeps a model's copies on them equal."""

import math
from typing import NamedTuple

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel


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
    """The ranks of ``group`` (default: all), or this rank alone without a group or with gradients disabled.

    A rank that is alone issues no collective: validation may run a different number of batches on each rank. Raises
    ``ValueError`` where this process is not in ``group``.
    """
    return members(group) if torch.is_grad_enabled() else ALONE


def members(group: dist.ProcessGroup | None = None) -> Ranks:
    """``training_ranks``, whether gradients are enabled or not."""
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


def has_ddp(energy_model: nn.Module) -> bool:
    """Whether the model is in ``DistributedDataParallel``, compiled or not."""
    while not isinstance(energy_model, DistributedDataParallel) and hasattr(energy_model, "_orig_mod"):
        energy_model = energy_model._orig_mod  # type: ignore[assignment]
    return isinstance(energy_model, DistributedDataParallel)


def are_sharded(parameters: list[nn.Parameter]) -> bool:
    """Whether this rank holds parts of parameters: FSDP of either kind, DTensor, or DeepSpeed's ZeRO-3."""
    marks = "_fsdp_flattened", "device_mesh", "ds_shape"
    return any(hasattr(parameter, mark) for parameter in parameters for mark in marks)


def sharded_error(rank: int) -> ValueError:
    return ValueError(
        f"energy_losses: the energy model of rank {rank} has sharded parameters (FSDP, DTensor, ZeRO). What shards "
        "them also averages their gradients: take out the line with replicate (energy-patch apply --no-sync leaves it "
        "out)"
    )

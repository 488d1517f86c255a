# energy-patch apply
from __future__ import annotations

import dataclasses
import random

import torch
import torch.distributed as dist
import tyro

from data import get_loader
from energy.energy_model import EnergyModel, energy_inbatch_swap_infonce
from policy import Policy


@dataclasses.dataclass(frozen=True)
class Args:
    """Train an energy model on frozen features."""

    seed: int = 0
    """Seed of the run."""
    learning_rate: float = 1e-3
    """Step size of Adam."""
    total_steps: int = 4
    """Number of updates."""


if __name__ == "__main__":
    args = tyro.cli(Args)
    dist.init_process_group("gloo")
    random.seed(args.seed)
    torch.manual_seed(args.seed + dist.get_rank())
    policy = Policy().eval().requires_grad_(False)
    energy_model = EnergyModel()
    optimizer = torch.optim.Adam(energy_model.parameters(), lr=args.learning_rate, eps=1e-5)
    loader = get_loader()
    data = iter(loader)
    for global_step in range(args.total_steps):
        try:
            batch = next(data)
        except StopIteration:
            data = iter(loader)
            batch = next(data)
        hidden, _ = policy(batch["observation"])
        loss, e_pos, e_neg = energy_inbatch_swap_infonce(energy_model, hidden, batch["actions"], batch["pad_mask"])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
# ==== after ====
from __future__ import annotations

import dataclasses
import random

import torch
import torch.distributed as dist
import tyro

from data import get_loader
from energy.energy_model import EnergyModel, energy_inbatch_swap_infonce
from energy_losses.global_infonce import distributed_energy_inbatch_swap_infonce
from energy_losses.ranks import replicate
from policy import Policy


@dataclasses.dataclass(frozen=True)
class Args:
    """Train an energy model on frozen features."""

    seed: int = 0
    """Seed of the run."""
    learning_rate: float = 1e-3
    """Step size of Adam."""
    total_steps: int = 4
    """Number of updates."""
    energy_tau: float = 0.07  # Temperature of the energy model's InfoNCE loss


if __name__ == "__main__":
    args = tyro.cli(Args)
    dist.init_process_group("gloo")
    random.seed(args.seed)
    torch.manual_seed(args.seed + dist.get_rank())
    policy = Policy().eval().requires_grad_(False)
    energy_model = EnergyModel()
    optimizer = torch.optim.Adam(energy_model.parameters(), lr=args.learning_rate, eps=1e-5)
    loader = get_loader()
    data = iter(loader)
    for global_step in range(args.total_steps):
        try:
            batch = next(data)
        except StopIteration:
            data = iter(loader)
            batch = next(data)
        hidden, _ = policy(batch["observation"])
        replicate(energy_model)
        world_size = dist.get_world_size() if dist.is_initialized() else 1
        loss, e_pos, e_neg = distributed_energy_inbatch_swap_infonce(energy_model, hidden, batch["actions"], batch["pad_mask"], tau=args.energy_tau, world_size=world_size)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

# energy-patch apply
from dataclasses import dataclass
from typing import Any, Iterable

import torch
import torch.distributed as dist

from data import get_loader
from energy.energy_model import EnergyModel, energy_inbatch_swap_infonce
from policy import Policy


@dataclass
class Config:
    lr: float = 1e-3
    val_every: int = 2


def forward(policy: Any, energy_model: torch.nn.Module, batch: dict) -> torch.Tensor:
    hidden, _ = policy(batch["observation"])
    return energy_inbatch_swap_infonce(energy_model, hidden.detach(), batch["actions"], batch["pad_mask"])[0]


def validate(policy, energy_model, loader: Iterable[dict]) -> float:
    energy_model.eval()
    with torch.no_grad():
        values = [forward(policy, energy_model, batch).item() for batch in loader]
    energy_model.train()
    return sum(values) / len(values)


def main(config: Config) -> None:
    dist.init_process_group("gloo")
    policy, energy_model = Policy(), EnergyModel()
    optimizer = torch.optim.AdamW(energy_model.parameters(), lr=config.lr)
    print("before:", validate(policy, energy_model, get_loader(size=3 + 3 * dist.get_rank())))
    for step, batch in enumerate(get_loader()):
        optimizer.zero_grad()
        forward(policy, energy_model, batch).backward()
        optimizer.step()
        if step % config.val_every == 0 and dist.get_rank() == 0:
            print(validate(policy, energy_model, get_loader(size=6)))


main(Config())
# ==== after ====
from dataclasses import dataclass
from typing import Any, Iterable

import torch
import torch.distributed as dist

from data import get_loader
from energy.energy_model import EnergyModel, energy_inbatch_swap_infonce
from energy_losses.global_infonce import distributed_energy_inbatch_swap_infonce
from energy_losses.ranks import replicate
from policy import Policy


@dataclass
class Config:
    lr: float = 1e-3
    val_every: int = 2
    energy_tau: float = 0.07  # Temperature of the energy model's InfoNCE loss


def forward(policy: Any, energy_model: torch.nn.Module, batch: dict, energy_tau: float = 0.07) -> torch.Tensor:
    hidden, _ = policy(batch["observation"])
    replicate(energy_model)
    world_size = dist.get_world_size() if dist.is_initialized() else 1
    return distributed_energy_inbatch_swap_infonce(energy_model, hidden.detach(), batch["actions"], batch["pad_mask"], tau=energy_tau, world_size=world_size)[0]


def validate(policy, energy_model, loader: Iterable[dict]) -> float:
    energy_model.eval()
    with torch.no_grad():
        values = [forward(policy, energy_model, batch).item() for batch in loader]
    energy_model.train()
    return sum(values) / len(values)


def main(config: Config) -> None:
    dist.init_process_group("gloo")
    policy, energy_model = Policy(), EnergyModel()
    optimizer = torch.optim.AdamW(energy_model.parameters(), lr=config.lr)
    print("before:", validate(policy, energy_model, get_loader(size=3 + 3 * dist.get_rank())))
    for step, batch in enumerate(get_loader()):
        optimizer.zero_grad()
        forward(policy, energy_model, batch, energy_tau=config.energy_tau).backward()
        optimizer.step()
        if step % config.val_every == 0 and dist.get_rank() == 0:
            print(validate(policy, energy_model, get_loader(size=6)))


main(Config())

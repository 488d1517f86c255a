# energy-patch apply
from dataclasses import dataclass

import torch
import torch.distributed as dist

from data import get_loader
from energy.energy_model import EnergyModel, energy_inbatch_swap_infonce
from policy import Policy


@dataclass
class Settings:
    rate: float = 1e-3
    warm: int = 1


def loss_of(model, hidden, batch):
    return energy_inbatch_swap_infonce(model, hidden, batch["actions"], batch["pad_mask"])


settings = Settings()
policy, model = Policy(), EnergyModel()
optimizer = torch.optim.AdamW(model.parameters(), lr=settings.rate)
example = next(iter(get_loader()))
with torch.no_grad():
    print("sanity", loss_of(model, policy(example["observation"])[0], example)[0])

dist.init_process_group("gloo")
for batch in get_loader():
    loss, pos, neg = loss_of(model, policy(batch["observation"])[0].detach(), batch)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
# ==== after ====
from dataclasses import dataclass

import torch
import torch.distributed as dist

from data import get_loader
from energy.energy_model import EnergyModel, energy_inbatch_swap_infonce
from energy_losses.global_infonce import distributed_energy_inbatch_swap_infonce
from energy_losses.ranks import replicate
from policy import Policy


@dataclass
class Settings:
    rate: float = 1e-3
    warm: int = 1
    energy_tau: float = 0.07  # Temperature of the energy model's InfoNCE loss


def loss_of(model, hidden, batch):
    replicate(model)
    world_size = dist.get_world_size() if dist.is_initialized() else 1
    return distributed_energy_inbatch_swap_infonce(model, hidden, batch["actions"], batch["pad_mask"], tau=settings.energy_tau, world_size=world_size)


settings = Settings()
policy, model = Policy(), EnergyModel()
optimizer = torch.optim.AdamW(model.parameters(), lr=settings.rate)
example = next(iter(get_loader()))
with torch.no_grad():
    print("sanity", loss_of(model, policy(example["observation"])[0], example)[0])

dist.init_process_group("gloo")
for batch in get_loader():
    loss, pos, neg = loss_of(model, policy(batch["observation"])[0].detach(), batch)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()

# energy-patch apply
import time
from dataclasses import dataclass

import torch
import torch.distributed as dist

from data import get_loader
from energy.energy_model import EnergyModel, energy_inbatch_swap_infonce
from policy import Policy


@dataclass
class Hyper:
    lr: float = 3e-4
    max_steps: int = 5
    log_every: int = 2


def cycle(loader):
    while True:
        yield from loader


hp = Hyper()
dist.init_process_group("gloo")
rank, world_size = dist.get_rank(), dist.get_world_size()
policy, energy_model = Policy(), EnergyModel()
optimizer = torch.optim.AdamW(energy_model.parameters(), lr=hp.lr)
batches, step, started = cycle(get_loader(4)), 0, time.time()
while step < hp.max_steps:
    batch = next(batches)
    hidden, _ = policy(batch["observation"])
    if (loss := energy_inbatch_swap_infonce(energy_model, hidden.detach(), batch["actions"], batch["pad_mask"])[0]) is not None:
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    step += 1
    if rank == 0 and step % hp.log_every == 0:
        print(f"{step}/{hp.max_steps} on {world_size} ranks: {loss.item():.3f}, {time.time() - started:.1f} s")
# ==== after ====
import time
from dataclasses import dataclass

import torch
import torch.distributed as dist

from data import get_loader
from energy.energy_model import EnergyModel, energy_inbatch_swap_infonce
from energy_losses.global_infonce import distributed_energy_inbatch_swap_infonce
from energy_losses.ranks import replicate
from policy import Policy


@dataclass
class Hyper:
    lr: float = 3e-4
    max_steps: int = 5
    log_every: int = 2
    energy_tau: float = 0.07  # Temperature of the energy model's InfoNCE loss


def cycle(loader):
    while True:
        yield from loader


hp = Hyper()
dist.init_process_group("gloo")
rank, world_size = dist.get_rank(), dist.get_world_size()
policy, energy_model = Policy(), EnergyModel()
optimizer = torch.optim.AdamW(energy_model.parameters(), lr=hp.lr)
batches, step, started = cycle(get_loader(4)), 0, time.time()
while step < hp.max_steps:
    batch = next(batches)
    hidden, _ = policy(batch["observation"])
    replicate(energy_model)
    infonce_world_size = dist.get_world_size() if dist.is_initialized() else 1
    if (loss := distributed_energy_inbatch_swap_infonce(energy_model, hidden.detach(), batch["actions"], batch["pad_mask"], tau=hp.energy_tau, world_size=infonce_world_size)[0]) is not None:
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    step += 1
    if rank == 0 and step % hp.log_every == 0:
        print(f"{step}/{hp.max_steps} on {world_size} ranks: {loss.item():.3f}, {time.time() - started:.1f} s")

# energy-patch apply
import os

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch.nn.parallel import DistributedDataParallel

from data import get_loader
from energy.energy_model import EnergyModel, energy_inbatch_swap_infonce
from policy import Policy


def setup(rank, world_size):
    os.environ.setdefault("MASTER_ADDR", "localhost")
    os.environ.setdefault("MASTER_PORT", "12355")
    dist.init_process_group("gloo", rank=rank, world_size=world_size)


def worker(rank, world_size, lr):
    setup(rank, world_size)
    policy = DistributedDataParallel(Policy())
    energy_model = EnergyModel()
    optim = torch.optim.AdamW([*policy.parameters(), *energy_model.parameters()], lr=lr)
    for batch in get_loader():
        hidden, action = policy(batch["observation"])
        e_loss, _, _ = energy_inbatch_swap_infonce(energy_model, hidden.detach(), batch["actions"], batch["pad_mask"])
        loss = (action - batch["actions"]).abs().mean() + e_loss
        optim.zero_grad()
        loss.backward()
        optim.step()
    dist.destroy_process_group()


if __name__ == "__main__":
    world_size = 2
    mp.spawn(worker, args=(world_size, 1e-3), nprocs=world_size, join=True)
# ==== after ====
import os

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch.nn.parallel import DistributedDataParallel

from data import get_loader
from energy.energy_model import EnergyModel, energy_inbatch_swap_infonce
from energy_losses.global_infonce import distributed_energy_inbatch_swap_infonce
from energy_losses.ranks import replicate
from policy import Policy


def setup(rank, world_size):
    os.environ.setdefault("MASTER_ADDR", "localhost")
    os.environ.setdefault("MASTER_PORT", "12355")
    dist.init_process_group("gloo", rank=rank, world_size=world_size)


def worker(rank, world_size, lr):
    setup(rank, world_size)
    policy = DistributedDataParallel(Policy())
    energy_model = EnergyModel()
    optim = torch.optim.AdamW([*policy.parameters(), *energy_model.parameters()], lr=lr)
    for batch in get_loader():
        hidden, action = policy(batch["observation"])
        replicate(energy_model)
        infonce_world_size = dist.get_world_size() if dist.is_initialized() else 1
        e_loss, _, _ = distributed_energy_inbatch_swap_infonce(energy_model, hidden.detach(), batch["actions"], batch["pad_mask"], tau=0.07, world_size=infonce_world_size)
        loss = (action - batch["actions"]).abs().mean() + e_loss
        optim.zero_grad()
        loss.backward()
        optim.step()
    dist.destroy_process_group()


if __name__ == "__main__":
    world_size = 2
    mp.spawn(worker, args=(world_size, 1e-3), nprocs=world_size, join=True)

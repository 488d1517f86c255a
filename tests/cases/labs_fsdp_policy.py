# energy-patch apply
"""The policy is sharded, the energy model is small and is not."""
import functools
import os
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch.distributed.fsdp import FullyShardedDataParallel as FSDP

from data import get_loader
from energy.energy_model import EnergyModel, energy_inbatch_swap_infonce
from policy import Policy


@dataclass
class FSDPTrainConfig:
    lr: float = 1e-3
    energy_lr: float = 1e-3
    max_norm: float = 1.0
    shard: bool = True


def setup_fsdp(policy, config: FSDPTrainConfig):
    wrap = functools.partial(FSDP, device_id=None)
    return wrap(policy) if config.shard else policy


def train_epoch(config, policy, energy_model, loader, policy_opt, energy_opt):
    for batch in loader:
        hidden, action = policy(batch["observation"])
        (action - batch["actions"]).abs().mean().backward()
        torch.nn.utils.clip_grad_norm_(policy.parameters(), config.max_norm)
        policy_opt.step()
        policy_opt.zero_grad()
        loss, pos, neg = energy_inbatch_swap_infonce(energy_model, hidden.detach(), batch["actions"], batch["pad_mask"])
        loss.backward()
        energy_opt.step()
        energy_opt.zero_grad()


def fsdp_main():
    config = FSDPTrainConfig()
    if not dist.is_initialized():
        dist.init_process_group("gloo")
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    policy = setup_fsdp(Policy(), config)
    energy_model = EnergyModel()
    policy_opt = torch.optim.AdamW(policy.parameters(), lr=config.lr)
    energy_opt = torch.optim.AdamW(energy_model.parameters(), lr=config.energy_lr)
    train_epoch(config, policy, energy_model, get_loader(), policy_opt, energy_opt)
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    fsdp_main()
# ==== after ====
"""The policy is sharded, the energy model is small and is not."""
import functools
import os
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch.distributed.fsdp import FullyShardedDataParallel as FSDP

from data import get_loader
from energy.energy_model import EnergyModel, energy_inbatch_swap_infonce
from energy_losses.global_infonce import distributed_energy_inbatch_swap_infonce
from energy_losses.ranks import replicate
from policy import Policy


@dataclass
class FSDPTrainConfig:
    lr: float = 1e-3
    energy_lr: float = 1e-3
    max_norm: float = 1.0
    shard: bool = True
    energy_tau: float = 0.07  # Temperature of the energy model's InfoNCE loss


def setup_fsdp(policy, config: FSDPTrainConfig):
    wrap = functools.partial(FSDP, device_id=None)
    return wrap(policy) if config.shard else policy


def train_epoch(config, policy, energy_model, loader, policy_opt, energy_opt):
    for batch in loader:
        hidden, action = policy(batch["observation"])
        (action - batch["actions"]).abs().mean().backward()
        torch.nn.utils.clip_grad_norm_(policy.parameters(), config.max_norm)
        policy_opt.step()
        policy_opt.zero_grad()
        replicate(energy_model)
        world_size = dist.get_world_size() if dist.is_initialized() else 1
        loss, pos, neg = distributed_energy_inbatch_swap_infonce(energy_model, hidden.detach(), batch["actions"], batch["pad_mask"], tau=config.energy_tau, world_size=world_size)
        loss.backward()
        energy_opt.step()
        energy_opt.zero_grad()


def fsdp_main():
    config = FSDPTrainConfig()
    if not dist.is_initialized():
        dist.init_process_group("gloo")
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    policy = setup_fsdp(Policy(), config)
    energy_model = EnergyModel()
    policy_opt = torch.optim.AdamW(policy.parameters(), lr=config.lr)
    energy_opt = torch.optim.AdamW(energy_model.parameters(), lr=config.energy_lr)
    train_epoch(config, policy, energy_model, get_loader(), policy_opt, energy_opt)
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    fsdp_main()

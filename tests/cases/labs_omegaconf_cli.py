# energy-patch apply
from dataclasses import dataclass

import torch
import torch.distributed as dist
from omegaconf import OmegaConf

from data import get_loader
from energy.energy_model import EnergyModel, energy_inbatch_swap_infonce
from policy import Policy


@dataclass
class Args:
    batch_size: int = 4
    lr: float = 3e-3
    steps: int = 3
    # 0 means off
    clip: float = 0.0


def run(args):
    dist.init_process_group("gloo")
    policy = Policy()
    ebm = EnergyModel()
    optimizer = torch.optim.RMSprop(ebm.parameters(), lr=args.lr)
    loader = iter(get_loader(args.batch_size))
    for step in range(args.steps):
        batch = next(loader)
        ctx, _ = policy(batch["observation"])
        out = energy_inbatch_swap_infonce(ebm, ctx.detach(), batch["actions"], batch["pad_mask"])
        optimizer.zero_grad()
        out[0].backward()
        if args.clip > 0:
            torch.nn.utils.clip_grad_value_(ebm.parameters(), args.clip)
        optimizer.step()


if __name__ == "__main__":
    run(OmegaConf.merge(OmegaConf.structured(Args), OmegaConf.from_cli()))
# ==== after ====
from dataclasses import dataclass

import torch
import torch.distributed as dist
from omegaconf import OmegaConf

from data import get_loader
from energy.energy_model import EnergyModel, energy_inbatch_swap_infonce
from energy_losses.global_infonce import distributed_energy_inbatch_swap_infonce
from energy_losses.ranks import replicate
from policy import Policy


@dataclass
class Args:
    batch_size: int = 4
    lr: float = 3e-3
    steps: int = 3
    # 0 means off
    clip: float = 0.0


def run(args):
    dist.init_process_group("gloo")
    policy = Policy()
    ebm = EnergyModel()
    optimizer = torch.optim.RMSprop(ebm.parameters(), lr=args.lr)
    loader = iter(get_loader(args.batch_size))
    for step in range(args.steps):
        batch = next(loader)
        ctx, _ = policy(batch["observation"])
        replicate(ebm)
        world_size = dist.get_world_size() if dist.is_initialized() else 1
        out = distributed_energy_inbatch_swap_infonce(ebm, ctx.detach(), batch["actions"], batch["pad_mask"], tau=0.07, world_size=world_size)
        optimizer.zero_grad()
        out[0].backward()
        if args.clip > 0:
            torch.nn.utils.clip_grad_value_(ebm.parameters(), args.clip)
        optimizer.step()


if __name__ == "__main__":
    run(OmegaConf.merge(OmegaConf.structured(Args), OmegaConf.from_cli()))

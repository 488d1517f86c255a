# energy-patch apply
from dataclasses import dataclass
import torch.distributed as dist
from energy.energy_model import energy_inbatch_swap_infonce


@dataclass
class Config:
    lr: float = 1e-3


def outer(cfg: Config):
    def inner(m, h, a):
        return energy_inbatch_swap_infonce(m, h, a)
    def inner2(m, h, a, cfg):
        return energy_inbatch_swap_infonce(m, h, a), cfg.get("x")
    return [energy_inbatch_swap_infonce(m, h, a) for cfg in x]
# ==== after ====
from dataclasses import dataclass
import torch.distributed as dist
from energy.energy_model import energy_inbatch_swap_infonce
from energy_losses.global_infonce import distributed_energy_inbatch_swap_infonce
from energy_losses.ranks import replicate


@dataclass
class Config:
    lr: float = 1e-3
    energy_tau: float = 0.07  # Temperature of the energy model's InfoNCE loss


def outer(cfg: Config):
    def inner(m, h, a):
        replicate(m)
        world_size = dist.get_world_size() if dist.is_initialized() else 1
        return distributed_energy_inbatch_swap_infonce(m, h, a, tau=cfg.energy_tau, world_size=world_size)
    def inner2(m, h, a, cfg):
        replicate(m)
        world_size = dist.get_world_size() if dist.is_initialized() else 1
        return distributed_energy_inbatch_swap_infonce(m, h, a, tau=0.07, world_size=world_size), cfg.get("x")
    return [distributed_energy_inbatch_swap_infonce(replicate(m), h, a, tau=0.07, world_size=dist.get_world_size() if dist.is_initialized() else 1) for cfg in x]

# energy-patch apply
from dataclasses import dataclass
import torch.distributed as dist
from energy.energy_model import energy_inbatch_swap_infonce


@dataclass
class Config:
    energy_tau: float = 0.2


def train(cfg: Config, m, h, a, mask):
    return energy_inbatch_swap_infonce(m, h, a, mask)


def validate(m, h, a, mask):
    return energy_inbatch_swap_infonce(m, h, a, mask)
# ==== after ====
from dataclasses import dataclass
import torch.distributed as dist
from energy.energy_model import energy_inbatch_swap_infonce
from energy_losses.global_infonce import distributed_energy_inbatch_swap_infonce
from energy_losses.ranks import replicate


@dataclass
class Config:
    energy_tau: float = 0.2


def train(cfg: Config, m, h, a, mask):
    replicate(m)
    world_size = dist.get_world_size() if dist.is_initialized() else 1
    return distributed_energy_inbatch_swap_infonce(m, h, a, mask, tau=cfg.energy_tau, world_size=world_size)


def validate(m, h, a, mask):
    replicate(m)
    world_size = dist.get_world_size() if dist.is_initialized() else 1
    return distributed_energy_inbatch_swap_infonce(m, h, a, mask, tau=0.2, world_size=world_size)

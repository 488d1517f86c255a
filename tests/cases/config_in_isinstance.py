# energy-patch apply
from dataclasses import dataclass
import torch.distributed as dist
from energy.energy_model import energy_inbatch_swap_infonce


@dataclass
class Config:
    lr: float = 1e-3


def run(m, h, a, c: Config):
    ok = isinstance(m, Config)
    return energy_inbatch_swap_infonce(m, h, a)
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


def run(m, h, a, c: Config):
    replicate(m)
    ok = isinstance(m, Config)
    world_size = dist.get_world_size() if dist.is_initialized() else 1
    return distributed_energy_inbatch_swap_infonce(m, h, a, tau=c.energy_tau, world_size=world_size)

# energy-patch apply
from typing import Optional
from dataclasses import dataclass
import torch.distributed as dist
from energy.energy_model import energy_inbatch_swap_infonce


@dataclass
class Config:
    energy_tau: Optional[float] = 0.3
    lr: float = 1e-3


def run(m, h, a, cfg: Config):
    return energy_inbatch_swap_infonce(m, h, a)
# ==== after ====
from typing import Optional
from dataclasses import dataclass
import torch.distributed as dist
from energy.energy_model import energy_inbatch_swap_infonce
from energy_losses.global_infonce import distributed_energy_inbatch_swap_infonce
from energy_losses.ranks import replicate


@dataclass
class Config:
    energy_tau: Optional[float] = 0.3
    lr: float = 1e-3


def run(m, h, a, cfg: Config):
    replicate(m)
    world_size = dist.get_world_size() if dist.is_initialized() else 1
    return distributed_energy_inbatch_swap_infonce(m, h, a, tau=cfg.energy_tau, world_size=world_size)

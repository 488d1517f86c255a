# energy-patch apply
from dataclasses import dataclass
import torch.distributed as dist
from energy.energy_model import energy_inbatch_swap_infonce


@dataclass
class Config:
    lr: float = 1e-3


def main(path):
    if path:
        cfg = Config.load(path)
    elif x:
        raise ValueError
    else:
        cfg = Config()
    energy_inbatch_swap_infonce(m, h, a)
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


def main(path):
    if path:
        cfg = Config.load(path)
    elif x:
        raise ValueError
    else:
        cfg = Config()
    replicate(m)
    world_size = dist.get_world_size() if dist.is_initialized() else 1
    distributed_energy_inbatch_swap_infonce(m, h, a, tau=cfg.energy_tau, world_size=world_size)

# energy-patch apply
from dataclasses import dataclass
import torch.distributed as dist
from energy.energy_model import energy_inbatch_swap_infonce


@dataclass
class Config:
    lr: float = 1e-3


def run(m, h, a, n=1):
    if n: return run(m, h, a, 0)
    return energy_inbatch_swap_infonce(m, h, a)
def main(cfg: Config):
    run(1, 2, 3)
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


def run(m, h, a, n=1, energy_tau=0.07):
    replicate(m)
    if n: return run(m, h, a, 0, energy_tau=energy_tau)
    world_size = dist.get_world_size() if dist.is_initialized() else 1
    return distributed_energy_inbatch_swap_infonce(m, h, a, tau=energy_tau, world_size=world_size)
def main(cfg: Config):
    run(1, 2, 3, energy_tau=cfg.energy_tau)

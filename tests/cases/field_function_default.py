# energy-patch apply
import torch.distributed as dist
from energy.energy_model import energy_inbatch_swap_infonce
from dataclasses import dataclass, field
@dataclass
class Config:
    lr: float = 1
    energy_tau: float = field(default=0.2)
def run(m, h, a):
    return energy_inbatch_swap_infonce(m, h, a)
def main(cfg: Config):
    run(1, 2, 3)
# ==== after ====
import torch.distributed as dist
from energy.energy_model import energy_inbatch_swap_infonce
from energy_losses.global_infonce import distributed_energy_inbatch_swap_infonce
from energy_losses.ranks import replicate
from dataclasses import dataclass, field
@dataclass
class Config:
    lr: float = 1
    energy_tau: float = field(default=0.2)
def run(m, h, a, energy_tau=0.2):
    replicate(m)
    world_size = dist.get_world_size() if dist.is_initialized() else 1
    return distributed_energy_inbatch_swap_infonce(m, h, a, tau=energy_tau, world_size=world_size)
def main(cfg: Config):
    run(1, 2, 3, energy_tau=cfg.energy_tau)

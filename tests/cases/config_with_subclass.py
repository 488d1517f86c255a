# energy-patch apply
import torch.distributed as dist
from energy.energy_model import energy_inbatch_swap_infonce
from dataclasses import dataclass, field
@dataclass
class Config:
    lr: float
    y: int
@dataclass
class Sub(Config):
    z: int
def main(cfg: Config):
    energy_inbatch_swap_infonce(m, h, a)
# ==== after ====
import torch.distributed as dist
from energy.energy_model import energy_inbatch_swap_infonce
from energy_losses.global_infonce import distributed_energy_inbatch_swap_infonce
from energy_losses.ranks import replicate
from dataclasses import dataclass, field
@dataclass
class Config:
    lr: float
    y: int
@dataclass
class Sub(Config):
    z: int
def main(cfg: Config):
    replicate(m)
    world_size = dist.get_world_size() if dist.is_initialized() else 1
    distributed_energy_inbatch_swap_infonce(m, h, a, tau=0.07, world_size=world_size)

# energy-patch apply
from dataclasses import dataclass
import torch.distributed as dist
from energy.energy_model import energy_inbatch_swap_infonce


@dataclass
class Config:
    lr: float = 1e-3


class A:
    def __init__(self, cfg: Config): self.cfg = cfg
    def loss(self, m, h, a): return energy_inbatch_swap_infonce(m, h, a)
class B(A):
    def loss(self, m, h, a): return 0
def main(cfg: Config):
    x = B(cfg)
    x.loss(1, 2, 3)
# ==== after ====
from dataclasses import dataclass
import torch.distributed as dist
from energy.energy_model import energy_inbatch_swap_infonce
from energy_losses.global_infonce import distributed_energy_inbatch_swap_infonce
from energy_losses.ranks import replicate


@dataclass
class Config:
    lr: float = 1e-3


class A:
    def __init__(self, cfg: Config): self.cfg = cfg
    def loss(self, m, h, a): return distributed_energy_inbatch_swap_infonce(replicate(m), h, a, tau=0.07, world_size=dist.get_world_size() if dist.is_initialized() else 1)
class B(A):
    def loss(self, m, h, a): return 0
def main(cfg: Config):
    x = B(cfg)
    x.loss(1, 2, 3)

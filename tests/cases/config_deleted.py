# energy-patch apply
from dataclasses import dataclass
import torch.distributed as dist
from energy.energy_model import energy_inbatch_swap_infonce


@dataclass
class Config:
    lr: float = 1e-4


def main(cfg: Config):
    lr, seen = cfg.lr, {}
    del seen["x"], (cfg, seen)
    energy_inbatch_swap_infonce(m, h, a)
# ==== after ====
from dataclasses import dataclass
import torch.distributed as dist
from energy.energy_model import energy_inbatch_swap_infonce
from energy_losses.global_infonce import distributed_energy_inbatch_swap_infonce
from energy_losses.ranks import replicate


@dataclass
class Config:
    lr: float = 1e-4


def main(cfg: Config):
    lr, seen = cfg.lr, {}
    del seen["x"], (cfg, seen)
    replicate(m)
    world_size = dist.get_world_size() if dist.is_initialized() else 1
    distributed_energy_inbatch_swap_infonce(m, h, a, tau=0.07, world_size=world_size)

# energy-patch apply
from dataclasses import dataclass
import torch.distributed as dist
from energy.energy_model import energy_inbatch_swap_infonce


@dataclass
class Config:
    lr: float = 1e-3
    temperature: float = 0.2


def train(cfg: Config, m, h, a, mask):
    evaluate(m, h, a, mask)
    return energy_inbatch_swap_infonce(m, h, a, mask, tau=cfg.temperature)


def evaluate(m, h, a, mask):
    return energy_inbatch_swap_infonce(m, h, a, mask)
# ==== after ====
from dataclasses import dataclass
import torch.distributed as dist
from energy.energy_model import energy_inbatch_swap_infonce
from energy_losses.global_infonce import distributed_energy_inbatch_swap_infonce
from energy_losses.ranks import replicate


@dataclass
class Config:
    lr: float = 1e-3
    temperature: float = 0.2


def train(cfg: Config, m, h, a, mask):
    replicate(m)
    evaluate(m, h, a, mask, temperature=cfg.temperature)
    world_size = dist.get_world_size() if dist.is_initialized() else 1
    return distributed_energy_inbatch_swap_infonce(m, h, a, mask, tau=cfg.temperature, world_size=world_size)


def evaluate(m, h, a, mask, temperature=0.2):
    replicate(m)
    world_size = dist.get_world_size() if dist.is_initialized() else 1
    return distributed_energy_inbatch_swap_infonce(m, h, a, mask, tau=temperature, world_size=world_size)

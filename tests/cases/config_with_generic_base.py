# energy-patch apply
from dataclasses import dataclass
from typing import Generic, TypeVar
import torch.distributed as dist
from energy.energy_model import energy_inbatch_swap_infonce

T = TypeVar("T")


@dataclass
class BaseConfig(Generic[T]):
    lr: float
    steps: int


@dataclass
class Config(BaseConfig[int]):
    horizon: int


def train(cfg: BaseConfig, m):
    for _ in range(cfg.steps):
        energy_inbatch_swap_infonce(m, h, a)
# ==== after ====
from dataclasses import dataclass
from typing import Generic, TypeVar
import torch.distributed as dist
from energy.energy_model import energy_inbatch_swap_infonce
from energy_losses.global_infonce import distributed_energy_inbatch_swap_infonce
from energy_losses.ranks import replicate

T = TypeVar("T")


@dataclass
class BaseConfig(Generic[T]):
    lr: float
    steps: int


@dataclass
class Config(BaseConfig[int]):
    horizon: int


def train(cfg: BaseConfig, m):
    for _ in range(cfg.steps):
        replicate(m)
        world_size = dist.get_world_size() if dist.is_initialized() else 1
        distributed_energy_inbatch_swap_infonce(m, h, a, tau=0.07, world_size=world_size)

# energy-patch apply
from dataclasses import dataclass, fields
import torch.distributed as dist
from torch import Tensor
from energy.energy_model import energy_inbatch_swap_infonce


@dataclass
class Batch:
    hidden: Tensor
    actions: Tensor
    mask: Tensor
    weights: Tensor

    def to(self, device):
        return Batch(**{f.name: getattr(self, f.name).to(device) for f in fields(self)})


@dataclass
class TrainConfig:
    lr: float = 1e-3
    steps: int = 2


def train_step(model, batch: Batch):
    return energy_inbatch_swap_infonce(model, batch.hidden, batch.actions, batch.mask)[0]


def main(cfg: TrainConfig):
    for _ in range(cfg.steps):
        train_step(model, next(batches).to("cuda")).backward()
# ==== after ====
from dataclasses import dataclass, fields
import torch.distributed as dist
from torch import Tensor
from energy.energy_model import energy_inbatch_swap_infonce
from energy_losses.global_infonce import distributed_energy_inbatch_swap_infonce
from energy_losses.ranks import replicate


@dataclass
class Batch:
    hidden: Tensor
    actions: Tensor
    mask: Tensor
    weights: Tensor

    def to(self, device):
        return Batch(**{f.name: getattr(self, f.name).to(device) for f in fields(self)})


@dataclass
class TrainConfig:
    lr: float = 1e-3
    steps: int = 2
    energy_tau: float = 0.07  # Temperature of the energy model's InfoNCE loss


def train_step(model, batch: Batch, energy_tau=0.07):
    replicate(model)
    world_size = dist.get_world_size() if dist.is_initialized() else 1
    return distributed_energy_inbatch_swap_infonce(model, batch.hidden, batch.actions, batch.mask, tau=energy_tau, world_size=world_size)[0]


def main(cfg: TrainConfig):
    for _ in range(cfg.steps):
        train_step(model, next(batches).to("cuda"), energy_tau=cfg.energy_tau).backward()

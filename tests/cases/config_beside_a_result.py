# energy-patch apply
from dataclasses import dataclass
import torch.distributed as dist
from energy.energy_model import energy_inbatch_swap_infonce


@dataclass
class Hyper:
    lr: float = 1e-4


@dataclass
class Out:
    loss: object
    pos: float
    neg: float


def compute(m, h, a):
    out = Out(None, 0.0, 0.0)
    out.loss, out.pos, out.neg = energy_inbatch_swap_infonce(m, h, a)
    return out


def main(hyper: Hyper):
    for key, value in vars(compute(m, h, a)).items():
        print(key, value)
# ==== after ====
from dataclasses import dataclass
import torch.distributed as dist
from energy.energy_model import energy_inbatch_swap_infonce
from energy_losses.global_infonce import distributed_energy_inbatch_swap_infonce
from energy_losses.ranks import replicate


@dataclass
class Hyper:
    lr: float = 1e-4
    energy_tau: float = 0.07  # Temperature of the energy model's InfoNCE loss


@dataclass
class Out:
    loss: object
    pos: float
    neg: float


def compute(m, h, a, energy_tau=0.07):
    out = Out(None, 0.0, 0.0)
    replicate(m)
    world_size = dist.get_world_size() if dist.is_initialized() else 1
    out.loss, out.pos, out.neg = distributed_energy_inbatch_swap_infonce(m, h, a, tau=energy_tau, world_size=world_size)
    return out


def main(hyper: Hyper):
    for key, value in vars(compute(m, h, a, energy_tau=hyper.energy_tau)).items():
        print(key, value)

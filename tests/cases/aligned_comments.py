# energy-patch apply --min-distance 0.05
from dataclasses import dataclass
import torch.distributed as dist
from energy.energy_model import energy_inbatch_swap_infonce


@dataclass
class Config:
    # fmt: off
    lr: float = 1e-3                 # Learning rate
    steps: int = 100                 # Steps,
                                     #   counted from 0

    # fmt: on


def run(m, h, a, mask, cfg: Config):
    return energy_inbatch_swap_infonce(m, h, a, mask)
# ==== after ====
from dataclasses import dataclass
import torch.distributed as dist
from energy.energy_model import energy_inbatch_swap_infonce
from energy_losses.global_infonce import distributed_energy_inbatch_swap_infonce
from energy_losses.ranks import replicate


@dataclass
class Config:
    # fmt: off
    lr: float = 1e-3                 # Learning rate
    steps: int = 100                 # Steps,
                                     #   counted from 0
    energy_tau: float = 0.07         # Temperature of the energy model's InfoNCE loss
    energy_min_distance: float = 0.05  # Candidates closer than this to the expert action (RMS) are no negatives

    # fmt: on


def run(m, h, a, mask, cfg: Config):
    replicate(m)
    world_size = dist.get_world_size() if dist.is_initialized() else 1
    return distributed_energy_inbatch_swap_infonce(m, h, a, mask, tau=cfg.energy_tau, min_distance=cfg.energy_min_distance, world_size=world_size)

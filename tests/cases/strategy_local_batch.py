# energy-patch apply --strategy local-batch
from dataclasses import dataclass
import torch.distributed as dist
from energy.energy_model import energy_inbatch_swap_infonce


@dataclass
class Config:
    batch_size: int = 8               # Per rank
    grad_accumulation_steps: int = 16 # Small steps


def run(m, h, a, mask=None, energy_model = None):
    layer_actions = [a]
    return energy_inbatch_swap_infonce(m, h, a, mask)


def train(cfg: Config, m, h, a, mask):
    run(m, h, a, mask)
# ==== after ====
from dataclasses import dataclass
import torch.distributed as dist
from energy.energy_model import energy_inbatch_swap_infonce
from energy_losses.ranks import replicate


@dataclass
class Config:
    batch_size: int = 6               # Per rank
    grad_accumulation_steps: int = 2  # Small steps


def run(m, h, a, mask=None, energy_model = None):
    layer_actions = [a]
    replicate(m)
    return energy_inbatch_swap_infonce(m, h, a, mask)


def train(cfg: Config, m, h, a, mask):
    run(m, h, a, mask)

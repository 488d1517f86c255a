# energy-patch apply --strategy adaptive
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
from energy_losses.adaptive import adaptive_energy_loss
from energy_losses.ranks import replicate


@dataclass
class Config:
    batch_size: int = 8               # Per rank
    grad_accumulation_steps: int = 16 # Small steps
    energy_tau: float = 0.07          # Temperature of the energy model's InfoNCE loss
    energy_num_negatives: int = 8     # Explicit negatives for each sample of the energy loss
    energy_min_local_batch: int = 8   # Local batch from which the adaptive energy loss is the global one


def run(m, h, a, mask=None, energy_model = None, energy_local_batch_size = None, energy_tau = 0.07, energy_num_negatives = 8, energy_min_local_batch = 8):
    layer_actions = [a]
    replicate(m)
    world_size = dist.get_world_size() if dist.is_initialized() else 1
    return adaptive_energy_loss(m, h, a, layer_actions, mask, local_batch_size=energy_local_batch_size, tau=energy_tau, num_negatives=energy_num_negatives, min_local_batch=energy_min_local_batch, world_size=world_size)


def train(cfg: Config, m, h, a, mask):
    run(m, h, a, mask, energy_local_batch_size=cfg.batch_size, energy_tau=cfg.energy_tau, energy_num_negatives=cfg.energy_num_negatives, energy_min_local_batch=cfg.energy_min_local_batch)

# energy-patch apply --strategy hybrid --no-sync --min-distance 0.05
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
from energy_losses.hybrid_infonce import hybrid_energy_infonce_loss


@dataclass
class Config:
    batch_size: int = 8               # Per rank
    grad_accumulation_steps: int = 16 # Small steps
    energy_tau: float = 0.07          # Temperature of the energy model's InfoNCE loss
    energy_num_negatives: int = 8     # Explicit negatives for each sample of the energy loss
    energy_min_distance: float = 0.05   # Candidates closer than this to the expert action (RMS) are no negatives


def run(m, h, a, mask=None, energy_model = None, energy_tau = 0.07, energy_num_negatives = 8, energy_min_distance = 0.05):
    layer_actions = [a]
    world_size = dist.get_world_size() if dist.is_initialized() else 1
    return hybrid_energy_infonce_loss(m, h, a, layer_actions, mask, tau=energy_tau, num_negatives=energy_num_negatives, min_distance=energy_min_distance, world_size=world_size)


def train(cfg: Config, m, h, a, mask):
    run(m, h, a, mask, energy_tau=cfg.energy_tau, energy_num_negatives=cfg.energy_num_negatives, energy_min_distance=cfg.energy_min_distance)

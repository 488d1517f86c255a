# energy-patch apply --strategy queue --queue-size 64
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
from energy_losses.queue_infonce import queued_energy_infonce_loss
from energy_losses.ranks import replicate


@dataclass
class Config:
    batch_size: int = 8               # Per rank
    grad_accumulation_steps: int = 16 # Small steps
    energy_tau: float = 0.07          # Temperature of the energy model's InfoNCE loss
    energy_queue_size: int = 64       # Latest actions of all ranks kept as further negatives of the energy loss


def run(m, h, a, mask=None, energy_model = None, energy_tau = 0.07, energy_queue_size = 64):
    layer_actions = [a]
    replicate(m)
    world_size = dist.get_world_size() if dist.is_initialized() else 1
    return queued_energy_infonce_loss(m, h, a, mask, tau=energy_tau, queue_size=energy_queue_size, world_size=world_size)


def train(cfg: Config, m, h, a, mask):
    run(m, h, a, mask, energy_tau=cfg.energy_tau, energy_queue_size=cfg.energy_queue_size)

# energy-patch apply --strategy queue
from dataclasses import dataclass
from energy.energy_model import energy_inbatch_swap_infonce


@dataclass
class Config:
    batch_size: int = 3


def run(m, h, a, mask, guesses, cfg: Config):
    first = energy_inbatch_swap_infonce(m, h, a)
    second = energy_inbatch_swap_infonce(m, h, a_pos=a, pad_mask=mask)
    third = energy_inbatch_swap_infonce(m, h, a, mask, 0.5, "mean")
    return first, second, third, energy_inbatch_swap_infonce(
        m,
        h,
        a,
        mask,
    )
# ==== after ====
from dataclasses import dataclass
from energy.energy_model import energy_inbatch_swap_infonce
import torch.distributed as dist
from energy_losses.queue_infonce import queued_energy_infonce_loss
from energy_losses.ranks import replicate


@dataclass
class Config:
    batch_size: int = 3
    energy_queue_size: int = 256  # Latest actions of all ranks kept as further negatives of the energy loss


def run(m, h, a, mask, guesses, cfg: Config):
    replicate(m)
    world_size = dist.get_world_size() if dist.is_initialized() else 1
    first = queued_energy_infonce_loss(m, h, a, tau=0.5, queue_size=cfg.energy_queue_size, world_size=world_size)
    second = queued_energy_infonce_loss(m, h, a_pos=a, pad_mask=mask, tau=0.5, queue_size=cfg.energy_queue_size, world_size=world_size)
    third = queued_energy_infonce_loss(m, h, a, mask, 0.5, queue_size=cfg.energy_queue_size, world_size=world_size)
    return first, second, third, queued_energy_infonce_loss(
        m,
        h,
        a,
        mask,
        tau=0.5,
        queue_size=cfg.energy_queue_size,
        world_size=world_size,
    )

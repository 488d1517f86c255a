# energy-patch apply --strategy adaptive --layer-actions guesses --min-local-batch 4
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
from energy_losses.adaptive import adaptive_energy_loss
from energy_losses.ranks import replicate


@dataclass
class Config:
    batch_size: int = 3
    energy_num_negatives: int = 8  # Explicit negatives for each sample of the energy loss
    energy_min_local_batch: int = 4  # Local batch from which the adaptive energy loss is the global one


def run(m, h, a, mask, guesses, cfg: Config):
    replicate(m)
    world_size = dist.get_world_size() if dist.is_initialized() else 1
    first = adaptive_energy_loss(m, h, a, layer_actions=guesses, energy_mask=None, local_batch_size=cfg.batch_size, tau=0.5, num_negatives=cfg.energy_num_negatives, min_local_batch=cfg.energy_min_local_batch, world_size=world_size)
    second = adaptive_energy_loss(m, h, ground_truth_actions=a, energy_mask=mask, layer_actions=guesses, local_batch_size=cfg.batch_size, tau=0.5, num_negatives=cfg.energy_num_negatives, min_local_batch=cfg.energy_min_local_batch, world_size=world_size)
    third = adaptive_energy_loss(m, h, a, guesses, mask, tau=0.5, local_batch_size=cfg.batch_size, num_negatives=cfg.energy_num_negatives, min_local_batch=cfg.energy_min_local_batch, world_size=world_size)
    return first, second, third, adaptive_energy_loss(
        m,
        h,
        a,
        guesses,
        mask,
        local_batch_size=cfg.batch_size,
        tau=0.5,
        num_negatives=cfg.energy_num_negatives,
        min_local_batch=cfg.energy_min_local_batch,
        world_size=world_size,
    )

# energy-patch apply --strategy hybrid --no-sync --layer-actions guesses
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
from energy_losses.hybrid_infonce import hybrid_energy_infonce_loss


@dataclass
class Config:
    batch_size: int = 3
    energy_num_negatives: int = 8  # Explicit negatives for each sample of the energy loss


def run(m, h, a, mask, guesses, cfg: Config):
    world_size = dist.get_world_size() if dist.is_initialized() else 1
    first = hybrid_energy_infonce_loss(m, h, a, layer_actions=guesses, energy_mask=None, tau=0.5, num_negatives=cfg.energy_num_negatives, world_size=world_size)
    second = hybrid_energy_infonce_loss(m, h, ground_truth_actions=a, energy_mask=mask, layer_actions=guesses, tau=0.5, num_negatives=cfg.energy_num_negatives, world_size=world_size)
    third = hybrid_energy_infonce_loss(m, h, a, guesses, mask, 0.5, num_negatives=cfg.energy_num_negatives, world_size=world_size)
    return first, second, third, hybrid_energy_infonce_loss(
        m,
        h,
        a,
        guesses,
        mask,
        tau=0.5,
        num_negatives=cfg.energy_num_negatives,
        world_size=world_size,
    )

# energy-patch apply --strategy layer --layer-actions guesses
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
from energy_losses.layer_infonce import layer_based_energy_infonce_loss
from energy_losses.ranks import replicate


@dataclass
class Config:
    batch_size: int = 3
    energy_num_negatives: int = 8  # Explicit negatives for each sample of the energy loss


def run(m, h, a, mask, guesses, cfg: Config):
    replicate(m)
    first = layer_based_energy_infonce_loss(m, h, a, layer_actions=guesses, energy_mask=None, tau=0.5, num_negatives=cfg.energy_num_negatives)
    second = layer_based_energy_infonce_loss(m, h, ground_truth_actions=a, energy_mask=mask, layer_actions=guesses, tau=0.5, num_negatives=cfg.energy_num_negatives)
    third = layer_based_energy_infonce_loss(m, h, a, guesses, mask, 0.5, num_negatives=cfg.energy_num_negatives)
    return first, second, third, layer_based_energy_infonce_loss(
        m,
        h,
        a,
        guesses,
        mask,
        tau=0.5,
        num_negatives=cfg.energy_num_negatives,
    )

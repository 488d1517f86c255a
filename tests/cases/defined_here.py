# energy-patch apply
"""A script."""
import torch


def energy_inbatch_swap_infonce(energy_model, h, a_pos, pad_mask, tau=0.5, reduce_steps="mean"):
    return None


def run(m, h, a, mask):
    return energy_inbatch_swap_infonce(m, h, a, mask)
# ==== after ====
"""A script."""
import torch
import torch.distributed as dist
from energy_losses.global_infonce import distributed_energy_inbatch_swap_infonce
from energy_losses.ranks import replicate


def energy_inbatch_swap_infonce(energy_model, h, a_pos, pad_mask, tau=0.5, reduce_steps="mean"):
    return None


def run(m, h, a, mask):
    replicate(m)
    world_size = dist.get_world_size() if dist.is_initialized() else 1
    return distributed_energy_inbatch_swap_infonce(m, h, a, mask, tau=0.07, world_size=world_size)

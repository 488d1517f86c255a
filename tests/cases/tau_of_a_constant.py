# energy-patch apply
import torch.distributed as dist
from energy.energy_model import energy_inbatch_swap_infonce

TAU = 0.2


def train(m, h, a, mask):
    return energy_inbatch_swap_infonce(m, h, a, mask, tau=TAU)


def validate(m, h, a, mask):
    return energy_inbatch_swap_infonce(m, h, a, mask)


def probe(m, h, a, mask, TAU):
    return energy_inbatch_swap_infonce(m, h, a, mask), TAU
# ==== after ====
import torch.distributed as dist
from energy.energy_model import energy_inbatch_swap_infonce
from energy_losses.global_infonce import distributed_energy_inbatch_swap_infonce
from energy_losses.ranks import replicate

TAU = 0.2


def train(m, h, a, mask):
    replicate(m)
    world_size = dist.get_world_size() if dist.is_initialized() else 1
    return distributed_energy_inbatch_swap_infonce(m, h, a, mask, tau=TAU, world_size=world_size)


def validate(m, h, a, mask):
    replicate(m)
    world_size = dist.get_world_size() if dist.is_initialized() else 1
    return distributed_energy_inbatch_swap_infonce(m, h, a, mask, tau=TAU, world_size=world_size)


def probe(m, h, a, mask, TAU):
    replicate(m)
    world_size = dist.get_world_size() if dist.is_initialized() else 1
    return distributed_energy_inbatch_swap_infonce(m, h, a, mask, tau=0.2, world_size=world_size), TAU

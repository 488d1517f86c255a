# energy-patch apply
from energy.energy_model import energy_inbatch_swap_infonce

def run(energy_model, h, a, mask):
    loss, pos, neg = energy_inbatch_swap_infonce(energy_model, h, a, mask)
    return loss
# ==== after ====
from energy.energy_model import energy_inbatch_swap_infonce
import torch.distributed as dist
from energy_losses.global_infonce import distributed_energy_inbatch_swap_infonce
from energy_losses.ranks import replicate

def run(energy_model, h, a, mask):
    replicate(energy_model)
    world_size = dist.get_world_size() if dist.is_initialized() else 1
    loss, pos, neg = distributed_energy_inbatch_swap_infonce(energy_model, h, a, mask, tau=0.07, world_size=world_size)
    return loss

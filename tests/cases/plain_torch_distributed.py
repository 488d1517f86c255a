# energy-patch apply
import torch.distributed
from energy.energy_model import energy_inbatch_swap_infonce

def run(m, h, a, mask):
    return energy_inbatch_swap_infonce(m, h, a, mask)
# ==== after ====
import torch.distributed
from energy.energy_model import energy_inbatch_swap_infonce
from energy_losses.global_infonce import distributed_energy_inbatch_swap_infonce
from energy_losses.ranks import replicate

def run(m, h, a, mask):
    replicate(m)
    world_size = torch.distributed.get_world_size() if torch.distributed.is_initialized() else 1
    return distributed_energy_inbatch_swap_infonce(m, h, a, mask, tau=0.07, world_size=world_size)

# energy-patch apply
from energy.energy_model import energy_inbatch_swap_infonce

def average_gradients(x):
    return x

def run(m, h, a, mask, world_size, dist):
    return energy_inbatch_swap_infonce(m, h, a, mask), world_size, dist
# ==== after ====
from energy.energy_model import energy_inbatch_swap_infonce
import torch.distributed as torch_distributed
from energy_losses.global_infonce import distributed_energy_inbatch_swap_infonce
from energy_losses.ranks import replicate

def average_gradients(x):
    return x

def run(m, h, a, mask, world_size, dist):
    replicate(m)
    infonce_world_size = torch_distributed.get_world_size() if torch_distributed.is_initialized() else 1
    return distributed_energy_inbatch_swap_infonce(m, h, a, mask, tau=0.07, world_size=infonce_world_size), world_size, dist

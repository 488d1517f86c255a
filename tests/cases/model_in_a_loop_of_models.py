# energy-patch apply
from energy.energy_model import energy_inbatch_swap_infonce

def run(models, h, a):
    total = energy_inbatch_swap_infonce(models[0], h, a)[0]
    for m in models:
        total = total + energy_inbatch_swap_infonce(m, h, a)[0]
    return total
# ==== after ====
from energy.energy_model import energy_inbatch_swap_infonce
import torch.distributed as dist
from energy_losses.global_infonce import distributed_energy_inbatch_swap_infonce
from energy_losses.ranks import replicate

def run(models, h, a):
    world_size = dist.get_world_size() if dist.is_initialized() else 1
    total = distributed_energy_inbatch_swap_infonce(replicate(models[0]), h, a, tau=0.07, world_size=world_size)[0]
    for m in models:
        replicate(m)
        total = total + distributed_energy_inbatch_swap_infonce(m, h, a, tau=0.07, world_size=world_size)[0]
    return total

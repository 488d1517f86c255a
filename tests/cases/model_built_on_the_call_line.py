# energy-patch apply
from energy.energy_model import energy_inbatch_swap_infonce

def run(h, a):
    m = EnergyModel(); loss = energy_inbatch_swap_infonce(m, h, a)[0]
    n = m; m = EnergyModel()
    return loss + energy_inbatch_swap_infonce(m, h, a)[0]
# ==== after ====
from energy.energy_model import energy_inbatch_swap_infonce
import torch.distributed as dist
from energy_losses.global_infonce import distributed_energy_inbatch_swap_infonce
from energy_losses.ranks import replicate

def run(h, a):
    world_size = dist.get_world_size() if dist.is_initialized() else 1
    m = EnergyModel(); loss = distributed_energy_inbatch_swap_infonce(replicate(m), h, a, tau=0.07, world_size=world_size)[0]
    n = m; m = EnergyModel()
    replicate(m)
    return loss + distributed_energy_inbatch_swap_infonce(m, h, a, tau=0.07, world_size=world_size)[0]

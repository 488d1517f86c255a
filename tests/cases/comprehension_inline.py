# energy-patch apply
from energy.energy_model import energy_inbatch_swap_infonce

def run(m, batches):
    return [energy_inbatch_swap_infonce(m, h, a, mask) for h, a, mask in batches]
# ==== after ====
from energy.energy_model import energy_inbatch_swap_infonce
import torch.distributed as dist
from energy_losses.global_infonce import distributed_energy_inbatch_swap_infonce
from energy_losses.ranks import replicate

def run(m, batches):
    return [distributed_energy_inbatch_swap_infonce(replicate(m), h, a, mask, tau=0.07, world_size=dist.get_world_size() if dist.is_initialized() else 1) for h, a, mask in batches]

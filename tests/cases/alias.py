# energy-patch apply --no-sync
from energy.energy_model import energy_inbatch_swap_infonce as swap_loss

def run(m, h, a, mask):
    return swap_loss(m, h, a, mask)
# ==== after ====
from energy.energy_model import energy_inbatch_swap_infonce as swap_loss
import torch.distributed as dist
from energy_losses.global_infonce import distributed_energy_inbatch_swap_infonce

def run(m, h, a, mask):
    world_size = dist.get_world_size() if dist.is_initialized() else 1
    return distributed_energy_inbatch_swap_infonce(m, h, a, mask, tau=0.07, world_size=world_size)

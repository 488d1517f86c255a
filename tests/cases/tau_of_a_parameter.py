# energy-patch apply
import torch.distributed as dist
from energy.energy_model import energy_inbatch_swap_infonce


def both(m, h, a, mask, tau=0.2):
    first = energy_inbatch_swap_infonce(m, h, a, mask, tau=tau)
    return first, energy_inbatch_swap_infonce(m, h.flip(1), a, mask)
# ==== after ====
import torch.distributed as dist
from energy.energy_model import energy_inbatch_swap_infonce
from energy_losses.global_infonce import distributed_energy_inbatch_swap_infonce
from energy_losses.ranks import replicate


def both(m, h, a, mask, tau=0.2):
    replicate(m)
    world_size = dist.get_world_size() if dist.is_initialized() else 1
    first = distributed_energy_inbatch_swap_infonce(m, h, a, mask, tau=tau, world_size=world_size)
    return first, distributed_energy_inbatch_swap_infonce(m, h.flip(1), a, mask, tau=tau, world_size=world_size)

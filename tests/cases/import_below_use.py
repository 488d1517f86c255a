# energy-patch apply
def f(m, h, a):
    from e import energy_inbatch_swap_infonce
    return energy_inbatch_swap_infonce(m, h, a)
f(1, 2, 3)
import os
# ==== after ====
import torch.distributed as dist
from energy_losses.global_infonce import distributed_energy_inbatch_swap_infonce
from energy_losses.ranks import replicate
def f(m, h, a):
    from e import energy_inbatch_swap_infonce
    replicate(m)
    world_size = dist.get_world_size() if dist.is_initialized() else 1
    return distributed_energy_inbatch_swap_infonce(m, h, a, tau=0.07, world_size=world_size)
f(1, 2, 3)
import os

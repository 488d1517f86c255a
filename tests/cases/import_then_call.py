# energy-patch apply
from e import energy_inbatch_swap_infonce
x = energy_inbatch_swap_infonce(m, h, a)
# ==== after ====
from e import energy_inbatch_swap_infonce
import torch.distributed as dist
from energy_losses.global_infonce import distributed_energy_inbatch_swap_infonce
from energy_losses.ranks import replicate
replicate(m)
world_size = dist.get_world_size() if dist.is_initialized() else 1
x = distributed_energy_inbatch_swap_infonce(m, h, a, tau=0.07, world_size=world_size)

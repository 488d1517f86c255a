# energy-patch apply
from typing import TYPE_CHECKING
if TYPE_CHECKING:
    import torch.distributed as dist
    from e import energy_inbatch_swap_infonce
def f(m, h, a):
    return energy_inbatch_swap_infonce(m, h, a)
# ==== after ====
from typing import TYPE_CHECKING
import torch.distributed as torch_distributed
from energy_losses.global_infonce import distributed_energy_inbatch_swap_infonce
from energy_losses.ranks import replicate
if TYPE_CHECKING:
    import torch.distributed as dist
    from e import energy_inbatch_swap_infonce
def f(m, h, a):
    replicate(m)
    world_size = torch_distributed.get_world_size() if torch_distributed.is_initialized() else 1
    return distributed_energy_inbatch_swap_infonce(m, h, a, tau=0.07, world_size=world_size)

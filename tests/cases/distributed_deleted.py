# energy-patch apply
import torch.distributed as dist
from energy.energy_model import energy_inbatch_swap_infonce

WORLD = dist.get_world_size()


def main():
    return energy_inbatch_swap_infonce(m, h, a)


del dist
main()
# ==== after ====
import torch.distributed as dist
from energy.energy_model import energy_inbatch_swap_infonce
import torch.distributed as torch_distributed
from energy_losses.global_infonce import distributed_energy_inbatch_swap_infonce
from energy_losses.ranks import replicate

WORLD = dist.get_world_size()


def main():
    replicate(m)
    world_size = torch_distributed.get_world_size() if torch_distributed.is_initialized() else 1
    return distributed_energy_inbatch_swap_infonce(m, h, a, tau=0.07, world_size=world_size)


del dist
main()

# energy-patch apply
import torch.distributed as dist
from energy.energy_model import energy_inbatch_swap_infonce


def main():
    loss = energy_inbatch_swap_infonce(m, h, a)
    dist: float
    world_size: int
    return loss
# ==== after ====
import torch.distributed as dist
from energy.energy_model import energy_inbatch_swap_infonce
import torch.distributed as torch_distributed
from energy_losses.global_infonce import distributed_energy_inbatch_swap_infonce
from energy_losses.ranks import replicate


def main():
    replicate(m)
    infonce_world_size = torch_distributed.get_world_size() if torch_distributed.is_initialized() else 1
    loss = distributed_energy_inbatch_swap_infonce(m, h, a, tau=0.07, world_size=infonce_world_size)
    dist: float
    world_size: int
    return loss

# energy-patch apply
from energy.energy_model import energy_inbatch_swap_infonce

def train(rank, m, loader):
    if rank >= 8:
        raise SystemExit("too many ranks")
    for h, a in loader:
        loss = energy_inbatch_swap_infonce(m, h, a)[0]
# ==== after ====
from energy.energy_model import energy_inbatch_swap_infonce
import torch.distributed as dist
from energy_losses.global_infonce import distributed_energy_inbatch_swap_infonce
from energy_losses.ranks import replicate

def train(rank, m, loader):
    if rank >= 8:
        raise SystemExit("too many ranks")
    for h, a in loader:
        replicate(m)
        world_size = dist.get_world_size() if dist.is_initialized() else 1
        loss = distributed_energy_inbatch_swap_infonce(m, h, a, tau=0.07, world_size=world_size)[0]

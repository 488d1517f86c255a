# energy-patch apply
from energy.energy_model import energy_inbatch_swap_infonce

def train(args, m, loader):
    for i, (h, a) in enumerate(loader):
        if args.local_rank != -1:
            loss = energy_inbatch_swap_infonce(m, h, a)[0]
        if args.gpu is not None and i % args.world_size == 0:
            loss = energy_inbatch_swap_infonce(m, h, a)[0]
        loss.backward()
        if args.local_rank == 0:
            print(loss.item())
# ==== after ====
from energy.energy_model import energy_inbatch_swap_infonce
import torch.distributed as dist
from energy_losses.global_infonce import distributed_energy_inbatch_swap_infonce
from energy_losses.ranks import replicate

def train(args, m, loader):
    for i, (h, a) in enumerate(loader):
        if args.local_rank != -1:
            replicate(m)
            world_size = dist.get_world_size() if dist.is_initialized() else 1
            loss = distributed_energy_inbatch_swap_infonce(m, h, a, tau=0.07, world_size=world_size)[0]
        if args.gpu is not None and i % args.world_size == 0:
            replicate(m)
            world_size = dist.get_world_size() if dist.is_initialized() else 1
            loss = distributed_energy_inbatch_swap_infonce(m, h, a, tau=0.07, world_size=world_size)[0]
        loss.backward()
        if args.local_rank == 0:
            print(loss.item())

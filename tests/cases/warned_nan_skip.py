# energy-patch apply
from energy.energy_model import energy_inbatch_swap_infonce

def compute(m, h, a):
    loss, pos, neg = energy_inbatch_swap_infonce(m, h, a)
    return loss

def train(m, loader, optimizer):
    for h, a in loader:
        loss = compute(m, h, a)
        if not torch.isfinite(loss):
            continue
        loss.backward()
        optimizer.step()
# ==== after ====
from energy.energy_model import energy_inbatch_swap_infonce
import torch.distributed as dist
from energy_losses.global_infonce import distributed_energy_inbatch_swap_infonce
from energy_losses.ranks import replicate

def compute(m, h, a):
    replicate(m)
    world_size = dist.get_world_size() if dist.is_initialized() else 1
    loss, pos, neg = distributed_energy_inbatch_swap_infonce(m, h, a, tau=0.07, world_size=world_size)
    return loss

def train(m, loader, optimizer):
    for h, a in loader:
        loss = compute(m, h, a)
        if not torch.isfinite(loss):
            continue
        loss.backward()
        optimizer.step()

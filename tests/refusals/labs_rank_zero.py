# energy-patch apply
# refused (unsupported), line 12: would wait for each other for ever; compute the loss on every rank, or under torch.no_grad()
import torch
import torch.distributed as dist

from energy.energy_model import EnergyModel, energy_inbatch_swap_infonce


def train(energy_model, loader, optimizer):
    rank = dist.get_rank()
    for h, a, mask in loader:
        if rank == 0:
            loss, e_pos, e_neg = energy_inbatch_swap_infonce(energy_model, h, a, mask)
            loss.backward()
            optimizer.step()

# energy-patch apply
# refused (unsupported), line 10: **batch, so its arguments cannot be told apart; write them out one by one
import torch
import torch.distributed as dist

from energy.energy_model import EnergyModel, energy_inbatch_swap_infonce

def train(energy_model, loader, optimizer):
    for batch in loader:
        loss, e_pos, e_neg = energy_inbatch_swap_infonce(energy_model, **batch)
        loss.backward()
        optimizer.step()

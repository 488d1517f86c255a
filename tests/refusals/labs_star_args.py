# energy-patch apply
# refused (unsupported), line 14: *prepare(batch), so its arguments cannot be told apart; write them out one by one
import torch
import torch.distributed as dist

from energy.energy_model import EnergyModel, energy_inbatch_swap_infonce

def prepare(batch):
    return batch["hidden"], batch["actions"], batch["pad_mask"]


def train(energy_model, loader, optimizer):
    for batch in loader:
        loss, e_pos, e_neg = energy_inbatch_swap_infonce(energy_model, *prepare(batch))
        loss.backward()
        optimizer.step()

# energy-patch apply
# refused (unsupported), line 9: passed to functools.partial here, not called, so the patch cannot see what it will be given; call the loss directly
import torch
import torch.distributed as dist

from energy.energy_model import EnergyModel, energy_inbatch_swap_infonce
from functools import partial

criterion = partial(energy_inbatch_swap_infonce, tau=0.2)


def train(energy_model, loader, optimizer):
    for h, a, mask in loader:
        loss, e_pos, e_neg = criterion(energy_model, h, a, mask)
        loss.backward()
        optimizer.step()

# energy-patch apply
# refused (unsupported), line 16: passed to train here, not called
import torch
import torch.distributed as dist

from energy.energy_model import EnergyModel, energy_inbatch_swap_infonce


def train(energy_model, loader, optimizer, loss_fn):
    for h, a, mask in loader:
        loss = loss_fn(energy_model, h, a, mask)[0]
        loss.backward()
        optimizer.step()


train(EnergyModel(), loader, optimizer, loss_fn=energy_inbatch_swap_infonce)

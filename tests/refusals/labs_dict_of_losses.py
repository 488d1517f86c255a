# energy-patch apply
# refused (unsupported), line 10: stored in a dict here, not called, so the patch cannot see what it will be given
import torch
import torch.distributed as dist

from energy.energy_model import EnergyModel, energy_inbatch_swap_infonce
from losses import margin_loss

LOSSES = {
    "infonce": energy_inbatch_swap_infonce,
    "margin": margin_loss,
}


def train(cfg, energy_model, loader, optimizer):
    for h, a, mask in loader:
        loss, *_ = LOSSES[cfg.loss](energy_model, h, a, mask)
        loss.backward()
        optimizer.step()

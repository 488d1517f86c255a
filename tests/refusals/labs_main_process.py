# energy-patch apply
# refused (unsupported), line 20: the loss on line 11 is computed only where a condition on the rank holds
import torch
import torch.distributed as dist

from energy.energy_model import EnergyModel, energy_inbatch_swap_infonce
from accelerate import Accelerator


def energy_step(energy_model, h, a, mask):
    loss, e_pos, e_neg = energy_inbatch_swap_infonce(energy_model, h, a, mask)
    loss.backward()
    return e_neg - e_pos


def main(loader):
    accelerator = Accelerator()
    energy_model = EnergyModel().to(accelerator.device)
    for h, a, mask in loader:
        if accelerator.is_main_process:
            energy_step(energy_model, h, a, mask)

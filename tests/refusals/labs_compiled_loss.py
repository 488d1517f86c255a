# energy-patch apply
# refused (unsupported), line 8: passed to torch.compile here, not called
import torch
import torch.distributed as dist

from energy.energy_model import EnergyModel, energy_inbatch_swap_infonce

infonce = torch.compile(energy_inbatch_swap_infonce, dynamic=True)


def step(energy_model, h, a, mask):
    return infonce(energy_model, h, a, mask)[0]

# energy-patch apply
# refused (unsupported), line 11: passed to compute here, not called
import torch
import torch.distributed as dist

from energy.energy_model import EnergyModel, energy_inbatch_swap_infonce


def energy_inbatch_swap_infonce_checked(model, h, a, mask):
    assert h.shape[0] == a.shape[0]
    return compute(energy_inbatch_swap_infonce, model, h, a, mask)

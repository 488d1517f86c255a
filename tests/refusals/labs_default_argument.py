# energy-patch apply
# refused (unsupported), line 10: is the default of a parameter here, not called
import torch
import torch.distributed as dist

from energy.energy_model import EnergyModel, energy_inbatch_swap_infonce


class EnergyCriterion(torch.nn.Module):
    def __init__(self, loss_fn=energy_inbatch_swap_infonce, weight=1.0):
        super().__init__()
        self.loss_fn, self.weight = loss_fn, weight

    def forward(self, energy_model, h, a, mask):
        return self.weight * self.loss_fn(energy_model, h, a, mask)[0]

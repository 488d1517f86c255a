# energy-patch apply
# refused (unsupported), line 12: is given another name here, not called
import torch
import torch.distributed as dist

from energy.energy_model import EnergyModel, energy_inbatch_swap_infonce


class Agent:
    def __init__(self, energy_model):
        self.energy_model = energy_model
        self.criterion = energy_inbatch_swap_infonce

    def update(self, h, a, mask):
        loss, e_pos, e_neg = self.criterion(self.energy_model, h, a, mask)
        loss.backward()

# energy-patch apply
# refused (unsupported), line 11: the loss on line 13 is computed only where a condition on the rank holds
import torch
import torch.distributed as dist

from energy.energy_model import EnergyModel, energy_inbatch_swap_infonce


class Trainer:
    def update_energy(self, h, a, mask):
        if self.rank != 0:
            return None
        loss = energy_inbatch_swap_infonce(self.energy_model, h, a, mask)[0]
        loss.backward()
        self.optimizer.step()
        return loss.item()

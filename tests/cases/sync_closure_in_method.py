# energy-patch apply
import torch.distributed as dist
from energy.energy_model import energy_inbatch_swap_infonce
class T:
    def __init__(self):
        self.energy_model = EnergyModel()
        self.optimizer = AdamW(self.energy_model.parameters())
    def train(self):
        def step():
            self.optimizer.step()
        for h, a in loader:
            energy_inbatch_swap_infonce(self.energy_model, h, a)[0].backward()
            step()
# ==== after ====
import torch.distributed as dist
from energy.energy_model import energy_inbatch_swap_infonce
from energy_losses.global_infonce import distributed_energy_inbatch_swap_infonce
from energy_losses.ranks import replicate
class T:
    def __init__(self):
        self.energy_model = EnergyModel()
        self.optimizer = AdamW(self.energy_model.parameters())
    def train(self):
        def step():
            self.optimizer.step()
        for h, a in loader:
            replicate(self.energy_model)
            world_size = dist.get_world_size() if dist.is_initialized() else 1
            distributed_energy_inbatch_swap_infonce(self.energy_model, h, a, tau=0.07, world_size=world_size)[0].backward()
            step()

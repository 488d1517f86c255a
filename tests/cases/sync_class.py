# energy-patch apply
from dataclasses import dataclass
import torch.distributed as dist
from energy.energy_model import energy_inbatch_swap_infonce


@dataclass
class Config:
    accumulation: int = 1



class Trainer:
    def __init__(self, cfg: Config):
        self.cfg = cfg
        self.energy_model = EnergyModel().cuda()
        self.optimizer = AdamW(self.energy_model.parameters())

    def train(self):
        for step, (h, a, mask) in enumerate(loader):
            self.loss(h, a, mask).backward()
            self.step()

    def loss(self, h, a, mask):
        return energy_inbatch_swap_infonce(self.energy_model, h, a, mask)[0]

    def step(self):
        clip_grad_norm_(self.energy_model.parameters(), 1.0)
        self.optimizer.step()
# ==== after ====
from dataclasses import dataclass
import torch.distributed as dist
from energy.energy_model import energy_inbatch_swap_infonce
from energy_losses.global_infonce import distributed_energy_inbatch_swap_infonce
from energy_losses.ranks import replicate


@dataclass
class Config:
    accumulation: int = 1
    energy_tau: float = 0.07  # Temperature of the energy model's InfoNCE loss



class Trainer:
    def __init__(self, cfg: Config):
        self.cfg = cfg
        self.energy_model = EnergyModel().cuda()
        self.optimizer = AdamW(self.energy_model.parameters())

    def train(self):
        for step, (h, a, mask) in enumerate(loader):
            self.loss(h, a, mask).backward()
            self.step()

    def loss(self, h, a, mask):
        replicate(self.energy_model)
        world_size = dist.get_world_size() if dist.is_initialized() else 1
        return distributed_energy_inbatch_swap_infonce(self.energy_model, h, a, mask, tau=self.cfg.energy_tau, world_size=world_size)[0]

    def step(self):
        clip_grad_norm_(self.energy_model.parameters(), 1.0)
        self.optimizer.step()

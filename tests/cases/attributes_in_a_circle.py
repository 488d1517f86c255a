# energy-patch apply
from dataclasses import dataclass
import torch.distributed as dist
from energy.energy_model import energy_inbatch_swap_infonce


@dataclass
class Config:
    lr: float = 1e-4


class Trainer:
    def build(self, m):
        self.m = m
        self.ema = self.m

    def step(self, h, a):
        return energy_inbatch_swap_infonce(self.m, h, a)[0]

    def swap(self):
        self.m = self.ema


def main(cfg: Config):
    trainer = Trainer()
    trainer.step(h, a)
# ==== after ====
from dataclasses import dataclass
import torch.distributed as dist
from energy.energy_model import energy_inbatch_swap_infonce
from energy_losses.global_infonce import distributed_energy_inbatch_swap_infonce
from energy_losses.ranks import replicate


@dataclass
class Config:
    lr: float = 1e-4
    energy_tau: float = 0.07  # Temperature of the energy model's InfoNCE loss


class Trainer:
    def build(self, m):
        self.m = m
        self.ema = self.m

    def step(self, h, a, energy_tau=0.07):
        replicate(self.m)
        world_size = dist.get_world_size() if dist.is_initialized() else 1
        return distributed_energy_inbatch_swap_infonce(self.m, h, a, tau=energy_tau, world_size=world_size)[0]

    def swap(self):
        self.m = self.ema


def main(cfg: Config):
    trainer = Trainer()
    trainer.step(h, a, energy_tau=cfg.energy_tau)

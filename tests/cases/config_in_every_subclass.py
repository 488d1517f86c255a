# energy-patch apply
from dataclasses import dataclass
import torch.distributed as dist
from energy.energy_model import energy_inbatch_swap_infonce


@dataclass
class Config:
    lr: float = 1e-4


class Trainer:
    def __init__(self, cfg: Config):
        self.cfg = cfg
        self.m = build(cfg.lr)

    def step(self, h, a):
        return energy_inbatch_swap_infonce(self.m, h, a)[0]


class Longer(Trainer):
    def __init__(self, cfg: Config, steps):
        super().__init__(cfg)
        self.steps = steps


class Other(Trainer):
    def __init__(self, cfg: Config):
        self.cfg = cfg
        self.m = build(0.0)


class Evaluator:
    def __init__(self, cfg):
        self.cfg = cfg["eval"]
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
    def __init__(self, cfg: Config):
        self.cfg = cfg
        self.m = build(cfg.lr)

    def step(self, h, a):
        replicate(self.m)
        world_size = dist.get_world_size() if dist.is_initialized() else 1
        return distributed_energy_inbatch_swap_infonce(self.m, h, a, tau=self.cfg.energy_tau, world_size=world_size)[0]


class Longer(Trainer):
    def __init__(self, cfg: Config, steps):
        super().__init__(cfg)
        self.steps = steps


class Other(Trainer):
    def __init__(self, cfg: Config):
        self.cfg = cfg
        self.m = build(0.0)


class Evaluator:
    def __init__(self, cfg):
        self.cfg = cfg["eval"]

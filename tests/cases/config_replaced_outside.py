# energy-patch apply
from dataclasses import asdict, dataclass
import torch.distributed as dist
from energy.energy_model import energy_inbatch_swap_infonce


@dataclass
class Config:
    lr: float = 1e-4


class Trainer:
    def __init__(self, cfg: Config):
        self.cfg = cfg

    def step(self, m, h, a):
        return energy_inbatch_swap_infonce(m, h, a)[0]


trainer = Trainer(Config())
trainer.cfg = asdict(trainer.cfg)
trainer.step(m, h, a)
# ==== after ====
from dataclasses import asdict, dataclass
import torch.distributed as dist
from energy.energy_model import energy_inbatch_swap_infonce
from energy_losses.global_infonce import distributed_energy_inbatch_swap_infonce
from energy_losses.ranks import replicate


@dataclass
class Config:
    lr: float = 1e-4


class Trainer:
    def __init__(self, cfg: Config):
        self.cfg = cfg

    def step(self, m, h, a):
        replicate(m)
        world_size = dist.get_world_size() if dist.is_initialized() else 1
        return distributed_energy_inbatch_swap_infonce(m, h, a, tau=0.07, world_size=world_size)[0]


trainer = Trainer(Config())
trainer.cfg = asdict(trainer.cfg)
trainer.step(m, h, a)

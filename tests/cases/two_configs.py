# energy-patch apply
import torch.distributed as dist
from energy.energy_model import energy_inbatch_swap_infonce
from dataclasses import dataclass, field
@dataclass
class Model:
    a: int = 1
    b: int = 1
    c: int = 1
@dataclass
class Train:
    lr: float = 1
def build(mc: Model): pass
def main(cfg: Train):
    energy_inbatch_swap_infonce(m, h, a)
# ==== after ====
import torch.distributed as dist
from energy.energy_model import energy_inbatch_swap_infonce
from energy_losses.global_infonce import distributed_energy_inbatch_swap_infonce
from energy_losses.ranks import replicate
from dataclasses import dataclass, field
@dataclass
class Model:
    a: int = 1
    b: int = 1
    c: int = 1
@dataclass
class Train:
    lr: float = 1
    energy_tau: float = 0.07  # Temperature of the energy model's InfoNCE loss
def build(mc: Model): pass
def main(cfg: Train):
    replicate(m)
    world_size = dist.get_world_size() if dist.is_initialized() else 1
    distributed_energy_inbatch_swap_infonce(m, h, a, tau=cfg.energy_tau, world_size=world_size)

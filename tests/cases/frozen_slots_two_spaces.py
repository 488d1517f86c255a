# energy-patch apply
import torch.distributed as dist
from energy.energy_model import energy_inbatch_swap_infonce
import dataclasses
@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Config:
  lr: float
  name: str  # the name
  # more about it
def main(options: Config):
  energy_inbatch_swap_infonce(m, h, a)
# ==== after ====
import torch.distributed as dist
from energy.energy_model import energy_inbatch_swap_infonce
from energy_losses.global_infonce import distributed_energy_inbatch_swap_infonce
from energy_losses.ranks import replicate
import dataclasses
@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Config:
  lr: float
  name: str  # the name
  energy_tau: float = 0.07  # Temperature of the energy model's InfoNCE loss
  # more about it
def main(options: Config):
  replicate(m)
  world_size = dist.get_world_size() if dist.is_initialized() else 1
  distributed_energy_inbatch_swap_infonce(m, h, a, tau=options.energy_tau, world_size=world_size)

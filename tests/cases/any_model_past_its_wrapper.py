# energy-patch apply
from energy.energy_model import energy_inbatch_swap_infonce
from dataclasses import dataclass
@dataclass
class Config:
    lr: float = 1e-3
def main(cfg: Config):
    energy_model = EnergyModel()
    optimizer = AdamW(energy_model.parameters())
    for i, (h, a, mask) in enumerate(loader):
        energy_inbatch_swap_infonce(energy_model.module, h, a, mask)[0].backward()
        optimizer.step()
# ==== after ====
from energy.energy_model import energy_inbatch_swap_infonce
import torch.distributed as dist
from energy_losses.global_infonce import distributed_energy_inbatch_swap_infonce
from energy_losses.ranks import replicate
from dataclasses import dataclass
@dataclass
class Config:
    lr: float = 1e-3
    energy_tau: float = 0.07  # Temperature of the energy model's InfoNCE loss
def main(cfg: Config):
    energy_model = EnergyModel()
    optimizer = AdamW(energy_model.parameters())
    for i, (h, a, mask) in enumerate(loader):
        replicate(energy_model.module)
        world_size = dist.get_world_size() if dist.is_initialized() else 1
        distributed_energy_inbatch_swap_infonce(energy_model.module, h, a, mask, tau=cfg.energy_tau, world_size=world_size)[0].backward()
        optimizer.step()

# energy-patch apply
from dataclasses import dataclass
import torch.distributed as dist
from energy.energy_model import energy_inbatch_swap_infonce


@dataclass
class Config:
    accumulation: int = 1



def main(cfg: Config, vla):
    energy_model = EnergyModel()
    params = [p for p in vla.parameters() if p.requires_grad]
    params += [p for p in energy_model.parameters() if p.requires_grad]
    optimizer = AdamW(params)
    scheduler = StepLR(optimizer)
    for step, (h, a, mask) in enumerate(loader):
        energy_inbatch_swap_infonce(energy_model, h, a, mask)[0].backward()
        optimizer.step()
        scheduler.step()
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



def main(cfg: Config, vla):
    energy_model = EnergyModel()
    params = [p for p in vla.parameters() if p.requires_grad]
    params += [p for p in energy_model.parameters() if p.requires_grad]
    optimizer = AdamW(params)
    scheduler = StepLR(optimizer)
    for step, (h, a, mask) in enumerate(loader):
        replicate(energy_model)
        world_size = dist.get_world_size() if dist.is_initialized() else 1
        distributed_energy_inbatch_swap_infonce(energy_model, h, a, mask, tau=cfg.energy_tau, world_size=world_size)[0].backward()
        optimizer.step()
        scheduler.step()

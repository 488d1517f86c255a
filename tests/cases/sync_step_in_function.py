# energy-patch apply
from dataclasses import dataclass
import torch.distributed as dist
from energy.energy_model import energy_inbatch_swap_infonce


@dataclass
class Config:
    accumulation: int = 1



def update(model, optimizer):
    clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()


def main(cfg: Config):
    energy_model = EnergyModel()
    optimizer = AdamW(energy_model.parameters())
    for step, (h, a, mask) in enumerate(loader):
        energy_inbatch_swap_infonce(energy_model, h, a, mask)[0].backward()
        if step % cfg.accumulation == 0:
            update(energy_model, optimizer)
# ==== after ====
from dataclasses import dataclass
import torch.distributed as dist
from energy.energy_model import energy_inbatch_swap_infonce
from energy_losses.global_infonce import distributed_energy_inbatch_swap_infonce
from energy_losses.ranks import average_gradients, broadcast_parameters


@dataclass
class Config:
    accumulation: int = 1
    energy_tau: float = 0.07  # Temperature of the energy model's InfoNCE loss



def update(model, optimizer):
    average_gradients(model)
    clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()


def main(cfg: Config):
    energy_model = EnergyModel()
    broadcast_parameters(energy_model)
    optimizer = AdamW(energy_model.parameters())
    for step, (h, a, mask) in enumerate(loader):
        world_size = dist.get_world_size() if dist.is_initialized() else 1
        distributed_energy_inbatch_swap_infonce(energy_model, h, a, mask, tau=cfg.energy_tau, world_size=world_size)[0].backward()
        if step % cfg.accumulation == 0:
            update(energy_model, optimizer)

# energy-patch apply
from dataclasses import dataclass
import torch.distributed as dist
from energy.energy_model import energy_inbatch_swap_infonce


@dataclass
class Config:
    accumulation: int = 1



def main(cfg: Config):
    energy_model = EnergyModel()
    energy_model.to("cuda")
    if cfg.accumulation > 1:
        energy_model.load_state_dict(torch.load("x"))
    params = list(energy_model.parameters())
    optimizer = AdamW(params)
    for step, (h, a, mask) in enumerate(loader):
        loss, _, _ = energy_inbatch_swap_infonce(energy_model, h, a, mask)
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        if cfg.accumulation: clip_grad_norm_(params, 1.0)
        scaler.step(optimizer)
        scaler.update()
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



def main(cfg: Config):
    energy_model = EnergyModel()
    energy_model.to("cuda")
    if cfg.accumulation > 1:
        energy_model.load_state_dict(torch.load("x"))
    params = list(energy_model.parameters())
    optimizer = AdamW(params)
    for step, (h, a, mask) in enumerate(loader):
        replicate(energy_model)
        world_size = dist.get_world_size() if dist.is_initialized() else 1
        loss, _, _ = distributed_energy_inbatch_swap_infonce(energy_model, h, a, mask, tau=cfg.energy_tau, world_size=world_size)
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        if cfg.accumulation: clip_grad_norm_(params, 1.0)
        scaler.step(optimizer)
        scaler.update()

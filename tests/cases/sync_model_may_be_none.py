# energy-patch apply
from dataclasses import dataclass
import torch.distributed as dist
from energy.energy_model import energy_inbatch_swap_infonce


@dataclass
class Config:
    lr: float = 1e-3


def main(cfg: Config):
    energy_model = None
    params = list(vla.parameters())
    if cfg.lr:
        energy_model = EnergyModel()
        params += list(energy_model.parameters())
    optimizer = AdamW(params)
    for h, a in loader:
        loss = vla(h)
        if cfg.lr:
            loss += energy_inbatch_swap_infonce(energy_model, h, a)[0]
        loss.backward()
        optimizer.step()
# ==== after ====
from dataclasses import dataclass
import torch.distributed as dist
from energy.energy_model import energy_inbatch_swap_infonce
from energy_losses.global_infonce import distributed_energy_inbatch_swap_infonce
from energy_losses.ranks import replicate


@dataclass
class Config:
    lr: float = 1e-3
    energy_tau: float = 0.07  # Temperature of the energy model's InfoNCE loss


def main(cfg: Config):
    energy_model = None
    params = list(vla.parameters())
    if cfg.lr:
        energy_model = EnergyModel()
        params += list(energy_model.parameters())
    optimizer = AdamW(params)
    for h, a in loader:
        loss = vla(h)
        if cfg.lr:
            replicate(energy_model)
            world_size = dist.get_world_size() if dist.is_initialized() else 1
            loss += distributed_energy_inbatch_swap_infonce(energy_model, h, a, tau=cfg.energy_tau, world_size=world_size)[0]
        loss.backward()
        optimizer.step()

# energy-patch apply
from dataclasses import dataclass, field

import hydra
import torch
import torch.distributed as dist
from hydra.core.config_store import ConfigStore

from data import get_loader
from energy.energy_model import EnergyModel, energy_inbatch_swap_infonce
from policy import Policy


@dataclass
class OptimConfig:
    lr: float = 1e-3
    betas: tuple = (0.9, 0.95)


@dataclass
class Config:
    optim: OptimConfig = field(default_factory=OptimConfig)
    batch_size: int = 3
    max_grad_norm: float = 1.0


cs = ConfigStore.instance()
cs.store(name="train", node=Config)


def training_step(policy, energy_model, batch):
    hidden, _ = policy(batch["observation"])
    return energy_inbatch_swap_infonce(energy_model, hidden.detach(), batch["actions"], batch["pad_mask"])


@hydra.main(version_base=None, config_name="train")
def main(cfg: Config) -> None:
    dist.init_process_group(backend="gloo")
    policy, energy_model = Policy(), EnergyModel()
    optimizer = torch.optim.AdamW(energy_model.parameters(), lr=cfg.optim.lr, betas=cfg.optim.betas)
    for batch in get_loader(cfg.batch_size):
        loss, e_pos, e_neg = training_step(policy, energy_model, batch)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(energy_model.parameters(), cfg.max_grad_norm)
        optimizer.step()


if __name__ == "__main__":
    main()
# ==== after ====
from dataclasses import dataclass, field

import hydra
import torch
import torch.distributed as dist
from hydra.core.config_store import ConfigStore

from data import get_loader
from energy.energy_model import EnergyModel, energy_inbatch_swap_infonce
from energy_losses.global_infonce import distributed_energy_inbatch_swap_infonce
from energy_losses.ranks import replicate
from policy import Policy


@dataclass
class OptimConfig:
    lr: float = 1e-3
    betas: tuple = (0.9, 0.95)


@dataclass
class Config:
    optim: OptimConfig = field(default_factory=OptimConfig)
    batch_size: int = 3
    max_grad_norm: float = 1.0
    energy_tau: float = 0.07  # Temperature of the energy model's InfoNCE loss


cs = ConfigStore.instance()
cs.store(name="train", node=Config)


def training_step(policy, energy_model, batch, energy_tau=0.07):
    hidden, _ = policy(batch["observation"])
    replicate(energy_model)
    world_size = dist.get_world_size() if dist.is_initialized() else 1
    return distributed_energy_inbatch_swap_infonce(energy_model, hidden.detach(), batch["actions"], batch["pad_mask"], tau=energy_tau, world_size=world_size)


@hydra.main(version_base=None, config_name="train")
def main(cfg: Config) -> None:
    dist.init_process_group(backend="gloo")
    policy, energy_model = Policy(), EnergyModel()
    optimizer = torch.optim.AdamW(energy_model.parameters(), lr=cfg.optim.lr, betas=cfg.optim.betas)
    for batch in get_loader(cfg.batch_size):
        loss, e_pos, e_neg = training_step(policy, energy_model, batch, energy_tau=cfg.energy_tau)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(energy_model.parameters(), cfg.max_grad_norm)
        optimizer.step()


if __name__ == "__main__":
    main()

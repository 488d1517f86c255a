# energy-patch apply
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import nn

from data import get_loader
from energy.energy_model import EnergyModel, energy_inbatch_swap_infonce
from policy import Policy


@dataclass
class Config:
    lr: float = 1e-3
    weight: float = 0.5


class EnergyLoss(nn.Module):
    """Holds the energy model, so that model and loss travel together."""

    def __init__(self, cfg: Config):
        super().__init__()
        self.cfg = cfg
        self.energy_model = EnergyModel()

    def forward(self, hidden, actions, pad_mask=None):
        loss, e_pos, e_neg = energy_inbatch_swap_infonce(self.energy_model, hidden, actions, pad_mask)
        return self.cfg.weight * loss, {"e_pos": e_pos.detach(), "e_neg": e_neg.detach()}


if __name__ == "__main__":
    cfg = Config()
    dist.init_process_group("gloo")
    policy, criterion = Policy(), EnergyLoss(cfg)
    optimizer = torch.optim.AdamW(list(policy.parameters()) + list(criterion.parameters()), lr=cfg.lr)
    for batch in get_loader():
        hidden, _ = policy(batch["observation"])
        loss, stats = criterion(hidden.detach(), batch["actions"], batch["pad_mask"])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
# ==== after ====
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import nn

from data import get_loader
from energy.energy_model import EnergyModel, energy_inbatch_swap_infonce
from energy_losses.global_infonce import distributed_energy_inbatch_swap_infonce
from energy_losses.ranks import replicate
from policy import Policy


@dataclass
class Config:
    lr: float = 1e-3
    weight: float = 0.5
    energy_tau: float = 0.07  # Temperature of the energy model's InfoNCE loss


class EnergyLoss(nn.Module):
    """Holds the energy model, so that model and loss travel together."""

    def __init__(self, cfg: Config):
        super().__init__()
        self.cfg = cfg
        self.energy_model = EnergyModel()

    def forward(self, hidden, actions, pad_mask=None):
        replicate(self.energy_model)
        world_size = dist.get_world_size() if dist.is_initialized() else 1
        loss, e_pos, e_neg = distributed_energy_inbatch_swap_infonce(self.energy_model, hidden, actions, pad_mask, tau=self.cfg.energy_tau, world_size=world_size)
        return self.cfg.weight * loss, {"e_pos": e_pos.detach(), "e_neg": e_neg.detach()}


if __name__ == "__main__":
    cfg = Config()
    dist.init_process_group("gloo")
    policy, criterion = Policy(), EnergyLoss(cfg)
    optimizer = torch.optim.AdamW(list(policy.parameters()) + list(criterion.parameters()), lr=cfg.lr)
    for batch in get_loader():
        hidden, _ = policy(batch["observation"])
        loss, stats = criterion(hidden.detach(), batch["actions"], batch["pad_mask"])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

# energy-patch apply
# ==== train.py ====
import torch
import torch.distributed as dist
from dataclasses import dataclass

from data import get_loader
from energy.energy_model import EnergyModel, energy_margin_infonce
from policy import Policy


@dataclass
class Config:
    lr: float = 1e-3
    tau: float = 0.3


def main(cfg: Config):
    dist.init_process_group("gloo")
    policy, energy_model = Policy(), EnergyModel()
    optimizer = torch.optim.AdamW(energy_model.parameters(), lr=cfg.lr)
    for batch in get_loader():
        hidden, guess = policy(batch["observation"])
        loss, E_pos, E_neg = energy_margin_infonce(
            energy_model, hidden.detach(), batch["actions"], guess.detach(), batch["pad_mask"], tau=cfg.tau
        )
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(energy_model.parameters(), 1.0)
        optimizer.step()


if __name__ == "__main__":
    main(Config())
# ==== energy/energy_model.py ====
import torch
import torch.nn as nn
import torch.nn.functional as F
from built import register


class EnergyModel(nn.Module):
    def __init__(self, hidden=8):
        super().__init__()
        self.state, self.action, self.head = nn.Linear(4, hidden), nn.Linear(6, hidden), nn.Linear(hidden, 1)
        register(self)

    def forward(self, h, a, pad_mask=None):
        joint = self.state(h.mean(dim=1)) * self.action(a.flatten(1))
        return torch.sigmoid(self.head(torch.tanh(joint))) * 2.0 + 0.1


def energy_inbatch_swap_infonce(energy_model, h, a_pos, pad_mask=None, tau=0.5, reduce_steps="mean"):
    B = h.shape[0]
    E = energy_model(h.repeat_interleave(B, 0), a_pos.repeat(B, 1, 1)).view(B, B)
    eye = torch.eye(B, dtype=torch.bool)
    return F.cross_entropy(-E / tau, torch.arange(B)), E[eye].mean(), E[~eye].mean()


def energy_margin_loss(energy_model, h, a_pos, a_neg, pad_mask=None, margin=0.5):
    return F.relu(margin + energy_model(h, a_pos, pad_mask) - energy_model(h, a_neg, pad_mask)).mean()


def energy_margin_infonce(energy_model, h, a_pos, a_neg, pad_mask=None, tau=0.5, alpha=0.5):
    # 组合损失: margin + InfoNCE
    margin = energy_margin_loss(energy_model, h, a_pos, a_neg, pad_mask)
    nce, E_pos, E_neg = energy_inbatch_swap_infonce(energy_model, h, a_pos, pad_mask, tau=tau)
    return alpha * margin + (1 - alpha) * nce, E_pos, E_neg
# ==== energy/energy_model.py, after ====
import torch
import torch.nn as nn
import torch.nn.functional as F
from built import register


class EnergyModel(nn.Module):
    def __init__(self, hidden=8):
        super().__init__()
        self.state, self.action, self.head = nn.Linear(4, hidden), nn.Linear(6, hidden), nn.Linear(hidden, 1)
        register(self)

    def forward(self, h, a, pad_mask=None):
        joint = self.state(h.mean(dim=1)) * self.action(a.flatten(1))
        return torch.sigmoid(self.head(torch.tanh(joint))) * 2.0 + 0.1


def energy_inbatch_swap_infonce(energy_model, h, a_pos, pad_mask=None, tau=0.5, reduce_steps="mean"):
    B = h.shape[0]
    E = energy_model(h.repeat_interleave(B, 0), a_pos.repeat(B, 1, 1)).view(B, B)
    eye = torch.eye(B, dtype=torch.bool)
    return F.cross_entropy(-E / tau, torch.arange(B)), E[eye].mean(), E[~eye].mean()


def energy_margin_loss(energy_model, h, a_pos, a_neg, pad_mask=None, margin=0.5):
    return F.relu(margin + energy_model(h, a_pos, pad_mask) - energy_model(h, a_neg, pad_mask)).mean()


def energy_margin_infonce(energy_model, h, a_pos, a_neg, pad_mask=None, tau=0.5, alpha=0.5):
    # 组合损失: margin + InfoNCE
    import torch.distributed as dist
    from energy_losses.global_infonce import distributed_energy_inbatch_swap_infonce
    from energy_losses.ranks import replicate
    replicate(energy_model)
    margin = energy_margin_loss(energy_model, h, a_pos, a_neg, pad_mask)
    world_size = dist.get_world_size() if dist.is_initialized() else 1
    nce, E_pos, E_neg = distributed_energy_inbatch_swap_infonce(energy_model, h, a_pos, pad_mask, tau=tau, world_size=world_size)
    return alpha * margin + (1 - alpha) * nce, E_pos, E_neg

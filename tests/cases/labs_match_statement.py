# energy-patch apply
import torch
import torch.distributed as dist
from dataclasses import dataclass

from data import get_loader
from energy.energy_model import EnergyModel, energy_inbatch_swap_infonce
from policy import Policy


@dataclass
class Cfg:
    loss: str = "infonce"
    lr: float = 1e-3


def compute(cfg: Cfg, energy_model, h, batch):
    match cfg.loss:
        case "infonce":
            loss, e_pos, e_neg = energy_inbatch_swap_infonce(energy_model, h, batch["actions"], batch["pad_mask"])
        case "margin":
            loss = torch.relu(1.0 + energy_model(h, batch["actions"]) - energy_model(h, batch["actions"].flip(0))).mean()
        case other:
            raise ValueError(f"unknown loss {other}")
    return loss


def main(cfg: Cfg = Cfg()):
    dist.init_process_group("gloo")
    policy, energy_model = Policy(), EnergyModel()
    optimizer = torch.optim.AdamW(energy_model.parameters(), lr=cfg.lr)
    for batch in get_loader():
        loss = compute(cfg, energy_model, policy(batch["observation"])[0].detach(), batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


if __name__ == "__main__":
    main()
# ==== after ====
import torch
import torch.distributed as dist
from dataclasses import dataclass

from data import get_loader
from energy.energy_model import EnergyModel, energy_inbatch_swap_infonce
from energy_losses.global_infonce import distributed_energy_inbatch_swap_infonce
from energy_losses.ranks import replicate
from policy import Policy


@dataclass
class Cfg:
    loss: str = "infonce"
    lr: float = 1e-3
    energy_tau: float = 0.07  # Temperature of the energy model's InfoNCE loss


def compute(cfg: Cfg, energy_model, h, batch):
    match cfg.loss:
        case "infonce":
            replicate(energy_model)
            world_size = dist.get_world_size() if dist.is_initialized() else 1
            loss, e_pos, e_neg = distributed_energy_inbatch_swap_infonce(energy_model, h, batch["actions"], batch["pad_mask"], tau=cfg.energy_tau, world_size=world_size)
        case "margin":
            loss = torch.relu(1.0 + energy_model(h, batch["actions"]) - energy_model(h, batch["actions"].flip(0))).mean()
        case other:
            raise ValueError(f"unknown loss {other}")
    return loss


def main(cfg: Cfg = Cfg()):
    dist.init_process_group("gloo")
    policy, energy_model = Policy(), EnergyModel()
    optimizer = torch.optim.AdamW(energy_model.parameters(), lr=cfg.lr)
    for batch in get_loader():
        loss = compute(cfg, energy_model, policy(batch["observation"])[0].detach(), batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


if __name__ == "__main__":
    main()

# energy-patch apply
# ==== train.py ====
import torch
import torch.distributed as dist
from dataclasses import dataclass

from data import get_loader
from energy.energy_model import EnergyModel, energy_inbatch_swap_infonce
from losses import auxiliary_loss
from policy import Policy


@dataclass
class Config:
    lr: float = 1e-3
    temperature: float = 0.2


def main(cfg: Config):
    dist.init_process_group("gloo")
    policy, energy_model = Policy(), EnergyModel()
    optimizer = torch.optim.AdamW(energy_model.parameters(), lr=cfg.lr)
    for batch in get_loader():
        hidden, guess = policy(batch["observation"])
        loss = energy_inbatch_swap_infonce(
            energy_model, hidden.detach(), batch["actions"], batch["pad_mask"], tau=cfg.temperature
        )[0]
        loss = loss + auxiliary_loss(energy_model, hidden.detach(), batch["actions"], batch["pad_mask"])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


if __name__ == "__main__":
    main(Config())
# ==== losses.py ====
from energy.energy_model import energy_inbatch_swap_infonce


def auxiliary_loss(energy_model, h, actions, mask):
    return 0.1 * energy_inbatch_swap_infonce(energy_model, h[:, :1], actions, mask[:, :1])[0]
# ==== train.py, after ====
import torch
import torch.distributed as dist
from dataclasses import dataclass

from data import get_loader
from energy.energy_model import EnergyModel, energy_inbatch_swap_infonce
from energy_losses.global_infonce import distributed_energy_inbatch_swap_infonce
from energy_losses.ranks import replicate
from losses import auxiliary_loss
from policy import Policy


@dataclass
class Config:
    lr: float = 1e-3
    temperature: float = 0.2


def main(cfg: Config):
    dist.init_process_group("gloo")
    policy, energy_model = Policy(), EnergyModel()
    optimizer = torch.optim.AdamW(energy_model.parameters(), lr=cfg.lr)
    for batch in get_loader():
        hidden, guess = policy(batch["observation"])
        replicate(energy_model)
        world_size = dist.get_world_size() if dist.is_initialized() else 1
        loss = distributed_energy_inbatch_swap_infonce(
            energy_model, hidden.detach(), batch["actions"], batch["pad_mask"], tau=cfg.temperature, world_size=world_size
        )[0]
        loss = loss + auxiliary_loss(energy_model, hidden.detach(), batch["actions"], batch["pad_mask"])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


if __name__ == "__main__":
    main(Config())
# ==== losses.py, after ====
from energy.energy_model import energy_inbatch_swap_infonce


def auxiliary_loss(energy_model, h, actions, mask):
    import torch.distributed as dist
    from energy_losses.global_infonce import distributed_energy_inbatch_swap_infonce
    from energy_losses.ranks import replicate
    replicate(energy_model)
    world_size = dist.get_world_size() if dist.is_initialized() else 1
    return 0.1 * distributed_energy_inbatch_swap_infonce(energy_model, h[:, :1], actions, mask[:, :1], tau=0.2, world_size=world_size)[0]

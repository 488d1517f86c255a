# energy-patch apply
import fire
import torch
import torch.distributed as dist
from pydantic import BaseModel

from data import get_loader
from energy.energy_model import EnergyModel, energy_inbatch_swap_infonce
from policy import Policy


class TrainSettings(BaseModel):
    lr: float = 1e-3
    batch_size: int = 3


def energy_loss(settings: TrainSettings, model, h, batch):
    return energy_inbatch_swap_infonce(model, h, batch["actions"], batch["pad_mask"])


def main(lr: float = 1e-2):
    settings = TrainSettings(lr=lr)
    dist.init_process_group("gloo")
    policy, model = Policy(), EnergyModel()
    optimizer = torch.optim.AdamW(model.parameters(), lr=settings.lr)
    for batch in get_loader(settings.batch_size):
        loss, pos, neg = energy_loss(settings, model, policy(batch["observation"])[0].detach(), batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


if __name__ == "__main__":
    fire.Fire(main)
# ==== after ====
import fire
import torch
import torch.distributed as dist
from pydantic import BaseModel

from data import get_loader
from energy.energy_model import EnergyModel, energy_inbatch_swap_infonce
from energy_losses.global_infonce import distributed_energy_inbatch_swap_infonce
from energy_losses.ranks import replicate
from policy import Policy


class TrainSettings(BaseModel):
    lr: float = 1e-3
    batch_size: int = 3


def energy_loss(settings: TrainSettings, model, h, batch):
    replicate(model)
    world_size = dist.get_world_size() if dist.is_initialized() else 1
    return distributed_energy_inbatch_swap_infonce(model, h, batch["actions"], batch["pad_mask"], tau=0.07, world_size=world_size)


def main(lr: float = 1e-2):
    settings = TrainSettings(lr=lr)
    dist.init_process_group("gloo")
    policy, model = Policy(), EnergyModel()
    optimizer = torch.optim.AdamW(model.parameters(), lr=settings.lr)
    for batch in get_loader(settings.batch_size):
        loss, pos, neg = energy_loss(settings, model, policy(batch["observation"])[0].detach(), batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


if __name__ == "__main__":
    fire.Fire(main)

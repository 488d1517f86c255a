# energy-patch apply
import copy

import torch
import torch.distributed as dist

from data import get_loader
from energy.energy_model import EnergyModel, energy_inbatch_swap_infonce
from policy import Policy


@torch.no_grad()
def update_ema(ema_model, model, decay=0.9):
    for ema, now in zip(ema_model.parameters(), model.parameters()):
        ema.lerp_(now, 1 - decay)


def main(decay: float = 0.9):
    dist.init_process_group("gloo")
    policy, energy_model = Policy(), EnergyModel()
    ema_model = copy.deepcopy(energy_model).requires_grad_(False)
    opt = torch.optim.AdamW(energy_model.parameters(), lr=1e-3)
    for step, batch in enumerate(get_loader()):
        hidden = policy(batch["observation"])[0].detach()
        loss, _, _ = energy_inbatch_swap_infonce(energy_model, hidden, batch["actions"], batch["pad_mask"])
        opt.zero_grad()
        loss.backward()
        opt.step()
        update_ema(ema_model, energy_model, decay)
        if step % 2 == 0:
            with torch.no_grad():
                val = energy_inbatch_swap_infonce(ema_model, hidden, batch["actions"], batch["pad_mask"])[0]


if __name__ == "__main__":
    main()
# ==== after ====
import copy

import torch
import torch.distributed as dist

from data import get_loader
from energy.energy_model import EnergyModel, energy_inbatch_swap_infonce
from energy_losses.global_infonce import distributed_energy_inbatch_swap_infonce
from energy_losses.ranks import replicate
from policy import Policy


@torch.no_grad()
def update_ema(ema_model, model, decay=0.9):
    for ema, now in zip(ema_model.parameters(), model.parameters()):
        ema.lerp_(now, 1 - decay)


def main(decay: float = 0.9):
    dist.init_process_group("gloo")
    policy, energy_model = Policy(), EnergyModel()
    ema_model = copy.deepcopy(energy_model).requires_grad_(False)
    opt = torch.optim.AdamW(energy_model.parameters(), lr=1e-3)
    for step, batch in enumerate(get_loader()):
        hidden = policy(batch["observation"])[0].detach()
        replicate(energy_model)
        world_size = dist.get_world_size() if dist.is_initialized() else 1
        loss, _, _ = distributed_energy_inbatch_swap_infonce(energy_model, hidden, batch["actions"], batch["pad_mask"], tau=0.07, world_size=world_size)
        opt.zero_grad()
        loss.backward()
        opt.step()
        update_ema(ema_model, energy_model, decay)
        if step % 2 == 0:
            with torch.no_grad():
                replicate(ema_model)
                val = distributed_energy_inbatch_swap_infonce(ema_model, hidden, batch["actions"], batch["pad_mask"], tau=0.07, world_size=world_size)[0]


if __name__ == "__main__":
    main()

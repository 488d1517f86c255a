# energy-patch apply
import torch
import torch.distributed as dist

from data import get_loader
from energy.energy_model import EnergyModel, energy_inbatch_swap_infonce
from policy import Policy


def set_trainable(module, flag):
    for p in module.parameters():
        p.requires_grad = flag


def main(freeze_steps=2):
    dist.init_process_group("gloo")
    policy, energy_model = Policy(), EnergyModel()
    set_trainable(energy_model.state, False)
    optimizer = torch.optim.AdamW(energy_model.parameters(), lr=1e-2)
    for step, batch in enumerate(get_loader()):
        if step == freeze_steps:
            set_trainable(energy_model.state, True)
        hidden = policy(batch["observation"])[0].detach()
        loss, _, _ = energy_inbatch_swap_infonce(energy_model, hidden, batch["actions"], batch["pad_mask"])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


main()
# ==== after ====
import torch
import torch.distributed as dist

from data import get_loader
from energy.energy_model import EnergyModel, energy_inbatch_swap_infonce
from energy_losses.global_infonce import distributed_energy_inbatch_swap_infonce
from energy_losses.ranks import replicate
from policy import Policy


def set_trainable(module, flag):
    for p in module.parameters():
        p.requires_grad = flag


def main(freeze_steps=2):
    dist.init_process_group("gloo")
    policy, energy_model = Policy(), EnergyModel()
    set_trainable(energy_model.state, False)
    optimizer = torch.optim.AdamW(energy_model.parameters(), lr=1e-2)
    for step, batch in enumerate(get_loader()):
        if step == freeze_steps:
            set_trainable(energy_model.state, True)
        hidden = policy(batch["observation"])[0].detach()
        replicate(energy_model)
        world_size = dist.get_world_size() if dist.is_initialized() else 1
        loss, _, _ = distributed_energy_inbatch_swap_infonce(energy_model, hidden, batch["actions"], batch["pad_mask"], tau=0.07, world_size=world_size)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


main()

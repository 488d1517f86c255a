# energy-patch apply
import torch
import torch.distributed as dist

from data import get_loader
from energy.energy_model import EnergyModel, energy_inbatch_swap_infonce
from policy import Policy

LOSSES = {
    "infonce": lambda model, h, batch: energy_inbatch_swap_infonce(model, h, batch["actions"], batch["pad_mask"])[0],
    "none": lambda model, h, batch: h.new_zeros(()),
}


def fit(kind="infonce", lr=1e-3):
    policy, energy_model = Policy(), EnergyModel()
    optimizer = torch.optim.AdamW(energy_model.parameters(), lr=lr)
    for batch in get_loader():
        loss = LOSSES[kind](energy_model, policy(batch["observation"])[0].detach(), batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


dist.init_process_group("gloo")
fit()
# ==== after ====
import torch
import torch.distributed as dist

from data import get_loader
from energy.energy_model import EnergyModel, energy_inbatch_swap_infonce
from energy_losses.global_infonce import distributed_energy_inbatch_swap_infonce
from energy_losses.ranks import replicate
from policy import Policy

LOSSES = {
    "infonce": lambda model, h, batch: distributed_energy_inbatch_swap_infonce(replicate(model), h, batch["actions"], batch["pad_mask"], tau=0.07, world_size=dist.get_world_size() if dist.is_initialized() else 1)[0],
    "none": lambda model, h, batch: h.new_zeros(()),
}


def fit(kind="infonce", lr=1e-3):
    policy, energy_model = Policy(), EnergyModel()
    optimizer = torch.optim.AdamW(energy_model.parameters(), lr=lr)
    for batch in get_loader():
        loss = LOSSES[kind](energy_model, policy(batch["observation"])[0].detach(), batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


dist.init_process_group("gloo")
fit()

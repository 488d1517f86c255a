# energy-patch apply
import math

import torch
import torch.distributed as dist

from data import get_loader
from energy.energy_model import EnergyModel, energy_inbatch_swap_infonce
from policy import Policy


def train(policy, energy_model, optimizer, loader, max_norm=1.0):
    skipped = 0
    for step, batch in enumerate(loader):
        hidden, _ = policy(batch["observation"])
        loss, e_pos, e_neg = energy_inbatch_swap_infonce(energy_model, hidden.detach(), batch["actions"], batch["pad_mask"])
        if not math.isfinite(loss.item()):
            skipped += 1
            optimizer.zero_grad()
            print(f"step {step}: loss is {loss.item()}, batch skipped")
            continue
        optimizer.zero_grad()
        loss.backward()
        grad_norm = torch.nn.utils.clip_grad_norm_(energy_model.parameters(), max_norm)
        if torch.isnan(grad_norm):
            continue
        optimizer.step()
    return skipped


if __name__ == "__main__":
    dist.init_process_group("gloo")
    policy, energy_model = Policy(), EnergyModel()
    train(policy, energy_model, torch.optim.AdamW(energy_model.parameters(), lr=1e-3), get_loader())
# ==== after ====
import math

import torch
import torch.distributed as dist

from data import get_loader
from energy.energy_model import EnergyModel, energy_inbatch_swap_infonce
from energy_losses.global_infonce import distributed_energy_inbatch_swap_infonce
from energy_losses.ranks import replicate
from policy import Policy


def train(policy, energy_model, optimizer, loader, max_norm=1.0):
    skipped = 0
    for step, batch in enumerate(loader):
        hidden, _ = policy(batch["observation"])
        replicate(energy_model)
        world_size = dist.get_world_size() if dist.is_initialized() else 1
        loss, e_pos, e_neg = distributed_energy_inbatch_swap_infonce(energy_model, hidden.detach(), batch["actions"], batch["pad_mask"], tau=0.07, world_size=world_size)
        if not math.isfinite(loss.item()):
            skipped += 1
            optimizer.zero_grad()
            print(f"step {step}: loss is {loss.item()}, batch skipped")
            continue
        optimizer.zero_grad()
        loss.backward()
        grad_norm = torch.nn.utils.clip_grad_norm_(energy_model.parameters(), max_norm)
        if torch.isnan(grad_norm):
            continue
        optimizer.step()
    return skipped


if __name__ == "__main__":
    dist.init_process_group("gloo")
    policy, energy_model = Policy(), EnergyModel()
    train(policy, energy_model, torch.optim.AdamW(energy_model.parameters(), lr=1e-3), get_loader())

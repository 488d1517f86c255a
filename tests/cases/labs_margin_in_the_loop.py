# energy-patch apply
import torch
import torch.distributed as dist

from data import get_loader
from energy.energy_model import EnergyModel, energy_inbatch_swap_infonce
from policy import Policy


def margin_loss(energy_model, h, good, bad, mask, margin=0.5):
    return torch.relu(margin + energy_model(h, good, mask) - energy_model(h, bad, mask)).mean()


def main():
    dist.init_process_group("gloo")
    policy, energy_model = Policy(), EnergyModel()
    optimizer = torch.optim.AdamW(energy_model.parameters(), lr=1e-3)
    for batch in get_loader():
        energy_model.train()
        hidden, guess = policy(batch["observation"])
        hidden, guess = hidden.detach(), guess.detach()
        with torch.autocast("cpu", enabled=False):
            margin = margin_loss(energy_model, hidden, batch["actions"], guess, batch["pad_mask"])
            nce, e_pos, e_neg = energy_inbatch_swap_infonce(energy_model, hidden, batch["actions"], batch["pad_mask"])
        optimizer.zero_grad()
        (margin + nce).backward()
        optimizer.step()


if __name__ == "__main__":
    main()
# ==== after ====
import torch
import torch.distributed as dist

from data import get_loader
from energy.energy_model import EnergyModel, energy_inbatch_swap_infonce
from energy_losses.global_infonce import distributed_energy_inbatch_swap_infonce
from energy_losses.ranks import replicate
from policy import Policy


def margin_loss(energy_model, h, good, bad, mask, margin=0.5):
    return torch.relu(margin + energy_model(h, good, mask) - energy_model(h, bad, mask)).mean()


def main():
    dist.init_process_group("gloo")
    policy, energy_model = Policy(), EnergyModel()
    optimizer = torch.optim.AdamW(energy_model.parameters(), lr=1e-3)
    for batch in get_loader():
        energy_model.train()
        hidden, guess = policy(batch["observation"])
        hidden, guess = hidden.detach(), guess.detach()
        with torch.autocast("cpu", enabled=False):
            replicate(energy_model)
            margin = margin_loss(energy_model, hidden, batch["actions"], guess, batch["pad_mask"])
            world_size = dist.get_world_size() if dist.is_initialized() else 1
            nce, e_pos, e_neg = distributed_energy_inbatch_swap_infonce(energy_model, hidden, batch["actions"], batch["pad_mask"], tau=0.07, world_size=world_size)
        optimizer.zero_grad()
        (margin + nce).backward()
        optimizer.step()


if __name__ == "__main__":
    main()

# energy-patch apply
import torch
import torch.distributed as dist

from data import get_loader
from energy.energy_model import EnergyModel, energy_inbatch_swap_infonce
from policy import Policy

torch.set_float32_matmul_precision("high")


def main(compile: bool = True):
    dist.init_process_group("gloo")
    policy = Policy()
    energy_model = EnergyModel()
    raw = energy_model
    if compile:
        energy_model = torch.compile(energy_model)
    optimizer = torch.optim.AdamW(energy_model.parameters(), lr=1e-3)
    for batch in get_loader():
        hidden = policy(batch["observation"])[0].detach()
        loss, e_pos, e_neg = energy_inbatch_swap_infonce(energy_model, hidden, batch["actions"], batch["pad_mask"])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    torch.save(raw.state_dict(), "energy.pt")


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

torch.set_float32_matmul_precision("high")


def main(compile: bool = True):
    dist.init_process_group("gloo")
    policy = Policy()
    energy_model = EnergyModel()
    raw = energy_model
    if compile:
        energy_model = torch.compile(energy_model)
    optimizer = torch.optim.AdamW(energy_model.parameters(), lr=1e-3)
    for batch in get_loader():
        hidden = policy(batch["observation"])[0].detach()
        replicate(energy_model)
        world_size = dist.get_world_size() if dist.is_initialized() else 1
        loss, e_pos, e_neg = distributed_energy_inbatch_swap_infonce(energy_model, hidden, batch["actions"], batch["pad_mask"], tau=0.07, world_size=world_size)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    torch.save(raw.state_dict(), "energy.pt")


if __name__ == "__main__":
    main()

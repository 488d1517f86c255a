# energy-patch apply
import pathlib

import torch
import torch.distributed as dist

from data import get_loader
from energy.energy_model import EnergyModel, energy_inbatch_swap_infonce
from policy import Policy


def save(path, model, optimizer, step):
    if dist.get_rank() == 0:
        torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict(), "step": step}, path)
    dist.barrier()


def load(path, model, optimizer):
    if not path.exists():
        return 0
    state = torch.load(path, map_location="cpu")
    model.load_state_dict(state["model"], strict=True)
    optimizer.load_state_dict(state["optimizer"])
    return state["step"]


def main():
    dist.init_process_group("gloo")
    path = pathlib.Path("energy_latest.pt")
    policy = Policy()
    model = EnergyModel()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    for step, batch in enumerate(get_loader(), start=load(path, model, optimizer)):
        hidden = policy(batch["observation"])[0].detach()
        loss, _, _ = energy_inbatch_swap_infonce(model, hidden, batch["actions"], batch["pad_mask"])
        optimizer.zero_grad(), loss.backward(), optimizer.step()
        if step == 1:
            save(path, model, optimizer, step)
            load(path, model, optimizer)


if __name__ == "__main__":
    main()
# ==== after ====
import pathlib

import torch
import torch.distributed as dist

from data import get_loader
from energy.energy_model import EnergyModel, energy_inbatch_swap_infonce
from energy_losses.global_infonce import distributed_energy_inbatch_swap_infonce
from energy_losses.ranks import replicate
from policy import Policy


def save(path, model, optimizer, step):
    if dist.get_rank() == 0:
        torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict(), "step": step}, path)
    dist.barrier()


def load(path, model, optimizer):
    if not path.exists():
        return 0
    state = torch.load(path, map_location="cpu")
    model.load_state_dict(state["model"], strict=True)
    optimizer.load_state_dict(state["optimizer"])
    return state["step"]


def main():
    dist.init_process_group("gloo")
    path = pathlib.Path("energy_latest.pt")
    policy = Policy()
    model = EnergyModel()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    for step, batch in enumerate(get_loader(), start=load(path, model, optimizer)):
        hidden = policy(batch["observation"])[0].detach()
        replicate(model)
        world_size = dist.get_world_size() if dist.is_initialized() else 1
        loss, _, _ = distributed_energy_inbatch_swap_infonce(model, hidden, batch["actions"], batch["pad_mask"], tau=0.07, world_size=world_size)
        optimizer.zero_grad(), loss.backward(), optimizer.step()
        if step == 1:
            save(path, model, optimizer, step)
            load(path, model, optimizer)


if __name__ == "__main__":
    main()

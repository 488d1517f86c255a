# energy-patch apply
import torch
import torch.distributed as dist

import energy.energy_model as energy_lib
from data import get_loader
from policy import Policy


def training_loop(num_steps: int = 3, lr: float = 1e-3) -> dict:
    dist.init_process_group("gloo")
    model = energy_lib.EnergyModel(state_dim=4, act_dim=3)
    params = dict(model.named_parameters())
    optimizer = torch.optim.AdamW(params.values(), lr=lr)
    history = {"loss": [], "pos": []}
    policy = Policy()
    for _, batch in zip(range(num_steps), get_loader()):
        hidden = policy(batch["observation"])[0].detach()
        loss, pos, _ = energy_lib.energy_inbatch_swap_infonce(model, hidden, batch["actions"], batch["pad_mask"])
        grads = torch.autograd.grad(loss, list(params.values()), retain_graph=True)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        history["loss"].append(loss.item()), history["pos"].append(pos.item())
    return history


if __name__ == "__main__":
    training_loop()
# ==== after ====
import torch
import torch.distributed as dist

import energy.energy_model as energy_lib
from energy_losses.global_infonce import distributed_energy_inbatch_swap_infonce
from energy_losses.ranks import replicate
from data import get_loader
from policy import Policy


def training_loop(num_steps: int = 3, lr: float = 1e-3) -> dict:
    dist.init_process_group("gloo")
    model = energy_lib.EnergyModel(state_dim=4, act_dim=3)
    params = dict(model.named_parameters())
    optimizer = torch.optim.AdamW(params.values(), lr=lr)
    history = {"loss": [], "pos": []}
    policy = Policy()
    for _, batch in zip(range(num_steps), get_loader()):
        hidden = policy(batch["observation"])[0].detach()
        replicate(model)
        world_size = dist.get_world_size() if dist.is_initialized() else 1
        loss, pos, _ = distributed_energy_inbatch_swap_infonce(model, hidden, batch["actions"], batch["pad_mask"], tau=0.07, world_size=world_size)
        grads = torch.autograd.grad(loss, list(params.values()), retain_graph=True)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        history["loss"].append(loss.item()), history["pos"].append(pos.item())
    return history


if __name__ == "__main__":
    training_loop()

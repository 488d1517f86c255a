# energy-patch apply
import torch
import torch.distributed as dist
import yaml

from data import get_loader
from energy.energy_model import EnergyModel, energy_inbatch_swap_infonce
from policy import Policy


def train(*, lr, batch_size, accum=1, epochs=1, **unused):
    dist.init_process_group("gloo")
    policy, energy_model = Policy(), EnergyModel()
    optimizer = torch.optim.AdamW(energy_model.parameters(), lr=lr)
    for epoch in range(epochs):
        for step, batch in enumerate(get_loader(batch_size)):
            inputs = dict(h=policy(batch["observation"])[0].detach(), a_pos=batch["actions"])
            loss, *rest = energy_inbatch_swap_infonce(energy_model, inputs["h"], a_pos=inputs["a_pos"], pad_mask=batch["pad_mask"])
            loss.div(accum).backward()
            if not (step + 1) % accum:
                optimizer.step()
                optimizer.zero_grad()


if __name__ == "__main__":
    with open("config.yaml") as file:
        train(**yaml.safe_load(file))
# ==== after ====
import torch
import torch.distributed as dist
import yaml

from data import get_loader
from energy.energy_model import EnergyModel, energy_inbatch_swap_infonce
from energy_losses.global_infonce import distributed_energy_inbatch_swap_infonce
from energy_losses.ranks import replicate
from policy import Policy


def train(*, lr, batch_size, accum=1, epochs=1, **unused):
    dist.init_process_group("gloo")
    policy, energy_model = Policy(), EnergyModel()
    optimizer = torch.optim.AdamW(energy_model.parameters(), lr=lr)
    for epoch in range(epochs):
        for step, batch in enumerate(get_loader(batch_size)):
            inputs = dict(h=policy(batch["observation"])[0].detach(), a_pos=batch["actions"])
            replicate(energy_model)
            world_size = dist.get_world_size() if dist.is_initialized() else 1
            loss, *rest = distributed_energy_inbatch_swap_infonce(energy_model, inputs["h"], a_pos=inputs["a_pos"], pad_mask=batch["pad_mask"], tau=0.07, world_size=world_size)
            loss.div(accum).backward()
            if not (step + 1) % accum:
                optimizer.step()
                optimizer.zero_grad()


if __name__ == "__main__":
    with open("config.yaml") as file:
        train(**yaml.safe_load(file))

# energy-patch apply
import torch
import torch.distributed as dist

from data import get_loader
from energy.energy_model import EnergyModel, energy_inbatch_swap_infonce
from policy import Policy

energy_model = None
optimizer = None


def init_models(lr):
    global energy_model, optimizer
    energy_model = EnergyModel()
    optimizer = torch.optim.AdamW(energy_model.parameters(), lr=lr)


def optimize(loss):
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


def main():
    dist.init_process_group("gloo")
    init_models(1e-3)
    policy = Policy()
    for batch in get_loader():
        hidden = policy(batch["observation"])[0].detach()
        optimize(energy_inbatch_swap_infonce(energy_model, hidden, batch["actions"], batch["pad_mask"])[0])


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

energy_model = None
optimizer = None


def init_models(lr):
    global energy_model, optimizer
    energy_model = EnergyModel()
    optimizer = torch.optim.AdamW(energy_model.parameters(), lr=lr)


def optimize(loss):
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


def main():
    dist.init_process_group("gloo")
    init_models(1e-3)
    policy = Policy()
    for batch in get_loader():
        hidden = policy(batch["observation"])[0].detach()
        replicate(energy_model)
        world_size = dist.get_world_size() if dist.is_initialized() else 1
        optimize(distributed_energy_inbatch_swap_infonce(energy_model, hidden, batch["actions"], batch["pad_mask"], tau=0.07, world_size=world_size)[0])


if __name__ == "__main__":
    main()

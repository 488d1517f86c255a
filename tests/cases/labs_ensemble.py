# energy-patch apply
import torch
import torch.distributed as dist
from torch import nn

from data import get_loader
from energy.energy_model import EnergyModel, energy_inbatch_swap_infonce
from policy import Policy


def main(members=2):
    dist.init_process_group("gloo")
    policy = Policy()
    ensemble = nn.ModuleList([EnergyModel() for _ in range(members)])
    optimizer = torch.optim.AdamW(ensemble.parameters(), lr=1e-3)
    for batch in get_loader():
        hidden = policy(batch["observation"])[0].detach()
        optimizer.zero_grad()
        for k, energy_model in enumerate(ensemble):
            loss, *_ = energy_inbatch_swap_infonce(energy_model, hidden, batch["actions"], batch["pad_mask"])
            loss.backward()
        optimizer.step()


main()
# ==== after ====
import torch
import torch.distributed as dist
from torch import nn

from data import get_loader
from energy.energy_model import EnergyModel, energy_inbatch_swap_infonce
from energy_losses.global_infonce import distributed_energy_inbatch_swap_infonce
from energy_losses.ranks import replicate
from policy import Policy


def main(members=2):
    dist.init_process_group("gloo")
    policy = Policy()
    ensemble = nn.ModuleList([EnergyModel() for _ in range(members)])
    optimizer = torch.optim.AdamW(ensemble.parameters(), lr=1e-3)
    for batch in get_loader():
        hidden = policy(batch["observation"])[0].detach()
        optimizer.zero_grad()
        for k, energy_model in enumerate(ensemble):
            replicate(energy_model)
            world_size = dist.get_world_size() if dist.is_initialized() else 1
            loss, *_ = distributed_energy_inbatch_swap_infonce(energy_model, hidden, batch["actions"], batch["pad_mask"], tau=0.07, world_size=world_size)
            loss.backward()
        optimizer.step()


main()

# energy-patch apply
# ==== train.py ====
import torch
import torch.distributed as dist

from data import get_loader
from energy.energy_model import EnergyModel, energy_inbatch_swap_infonce
from policy import Policy
from pretrain import set_threads


def train(policy, energy_model, optimizer):
    for batch in get_loader():
        hidden, _ = policy(batch["observation"])
        loss = energy_inbatch_swap_infonce(energy_model, hidden.detach(), batch["actions"], batch["pad_mask"])[0]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def main():
    dist.init_process_group("gloo")
    set_threads(1)
    energy_model = EnergyModel()
    train(Policy(), energy_model, torch.optim.AdamW(energy_model.parameters(), lr=1e-3))


if __name__ == "__main__":
    main()
# ==== pretrain.py ====
import torch

from losses import train as energy_loss


def set_threads(count):
    torch.set_num_threads(count)


def train(energy_model, loader):
    for h, a, mask in loader:
        energy_loss(energy_model, h, a, mask).backward()
# ==== losses.py ====
from energy.energy_model import energy_inbatch_swap_infonce


def train(energy_model, h, a, mask):
    return energy_inbatch_swap_infonce(energy_model, h, a, mask)[0]


if __name__ == "__main__":
    print(energy_inbatch_swap_infonce(None, None, None))
# ==== train.py, after ====
import torch
import torch.distributed as dist

from data import get_loader
from energy.energy_model import EnergyModel, energy_inbatch_swap_infonce
from energy_losses.global_infonce import distributed_energy_inbatch_swap_infonce
from energy_losses.ranks import replicate
from policy import Policy
from pretrain import set_threads


def train(policy, energy_model, optimizer):
    for batch in get_loader():
        hidden, _ = policy(batch["observation"])
        replicate(energy_model)
        world_size = dist.get_world_size() if dist.is_initialized() else 1
        loss = distributed_energy_inbatch_swap_infonce(energy_model, hidden.detach(), batch["actions"], batch["pad_mask"], tau=0.07, world_size=world_size)[0]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def main():
    dist.init_process_group("gloo")
    set_threads(1)
    energy_model = EnergyModel()
    train(Policy(), energy_model, torch.optim.AdamW(energy_model.parameters(), lr=1e-3))


if __name__ == "__main__":
    main()

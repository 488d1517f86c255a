# energy-patch apply
import torch
import torch.distributed as dist
import tyro

from data import get_loader
from energy.energy_model import EnergyModel, energy_inbatch_swap_infonce
from policy import Policy


def main(lr: float = 1e-3, batch_size: int = 3, margin: float = 0.1, /, *, weight: float = 1.0) -> None:
    """Everything on the command line.

    Args:
        lr: learning rate
        batch_size: per rank
        margin: unused for now
        weight: of the energy loss
    """
    dist.init_process_group("gloo")
    policy, energy = Policy(), EnergyModel()
    optimizer = torch.optim.NAdam(energy.parameters(), lr=lr)
    for batch in get_loader(batch_size):
        hidden = policy(batch["observation"])[0].detach()
        (loss, _, _) = energy_inbatch_swap_infonce(
            energy_model=energy, h=hidden, a_pos=batch["actions"], pad_mask=batch["pad_mask"]
        )
        optimizer.zero_grad()
        (weight * loss).backward()
        optimizer.step()


if __name__ == "__main__":
    tyro.cli(main)
# ==== after ====
import torch
import torch.distributed as dist
import tyro

from data import get_loader
from energy.energy_model import EnergyModel, energy_inbatch_swap_infonce
from energy_losses.global_infonce import distributed_energy_inbatch_swap_infonce
from energy_losses.ranks import replicate
from policy import Policy


def main(lr: float = 1e-3, batch_size: int = 3, margin: float = 0.1, /, *, weight: float = 1.0) -> None:
    """Everything on the command line.

    Args:
        lr: learning rate
        batch_size: per rank
        margin: unused for now
        weight: of the energy loss
    """
    dist.init_process_group("gloo")
    policy, energy = Policy(), EnergyModel()
    optimizer = torch.optim.NAdam(energy.parameters(), lr=lr)
    for batch in get_loader(batch_size):
        hidden = policy(batch["observation"])[0].detach()
        replicate(energy)
        world_size = dist.get_world_size() if dist.is_initialized() else 1
        (loss, _, _) = distributed_energy_inbatch_swap_infonce(
            energy_model=energy, h=hidden, a_pos=batch["actions"], pad_mask=batch["pad_mask"], tau=0.07, world_size=world_size
        )
        optimizer.zero_grad()
        (weight * loss).backward()
        optimizer.step()


if __name__ == "__main__":
    tyro.cli(main)

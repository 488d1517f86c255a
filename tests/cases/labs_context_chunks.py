# energy-patch apply
"""Micro-batches: a big batch is cut in pieces, each with its own backward pass."""
import torch
import torch.distributed as dist

from data import get_loader
from energy.energy_model import EnergyModel, energy_inbatch_swap_infonce
from policy import Policy

MICRO = 3


def micro_batches(batch, size=MICRO):
    for start in range(0, len(batch["actions"]), size):
        yield {key: value[start : start + size] for key, value in batch.items()}


def main() -> None:
    dist.init_process_group("gloo")
    rank = dist.get_rank()
    if rank == 0:
        print("micro-batches of", MICRO)
    policy, energy_model = Policy(), EnergyModel()
    optimizer = torch.optim.Adagrad(energy_model.parameters(), lr=1e-2)
    for batch in get_loader(batch_size=6):
        optimizer.zero_grad()
        pieces = list(micro_batches(batch))
        for piece in pieces:
            features = policy(piece["observation"])[0].detach()
            loss = energy_inbatch_swap_infonce(energy_model, features, piece["actions"], piece["pad_mask"])[0] / len(pieces)
            loss.backward()
        optimizer.step()
        if rank == 0: torch.save(energy_model.state_dict(), "energy.pt")


if __name__ == "__main__": main()
# ==== after ====
"""Micro-batches: a big batch is cut in pieces, each with its own backward pass."""
import torch
import torch.distributed as dist

from data import get_loader
from energy.energy_model import EnergyModel, energy_inbatch_swap_infonce
from energy_losses.global_infonce import distributed_energy_inbatch_swap_infonce
from energy_losses.ranks import replicate
from policy import Policy

MICRO = 3


def micro_batches(batch, size=MICRO):
    for start in range(0, len(batch["actions"]), size):
        yield {key: value[start : start + size] for key, value in batch.items()}


def main() -> None:
    dist.init_process_group("gloo")
    rank = dist.get_rank()
    if rank == 0:
        print("micro-batches of", MICRO)
    policy, energy_model = Policy(), EnergyModel()
    optimizer = torch.optim.Adagrad(energy_model.parameters(), lr=1e-2)
    for batch in get_loader(batch_size=6):
        optimizer.zero_grad()
        pieces = list(micro_batches(batch))
        for piece in pieces:
            features = policy(piece["observation"])[0].detach()
            replicate(energy_model)
            world_size = dist.get_world_size() if dist.is_initialized() else 1
            loss = distributed_energy_inbatch_swap_infonce(energy_model, features, piece["actions"], piece["pad_mask"], tau=0.07, world_size=world_size)[0] / len(pieces)
            loss.backward()
        optimizer.step()
        if rank == 0: torch.save(energy_model.state_dict(), "energy.pt")


if __name__ == "__main__": main()

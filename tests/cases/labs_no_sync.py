# energy-patch apply
import contextlib

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel as DDP

from data import get_loader
from energy.energy_model import EnergyModel, energy_inbatch_swap_infonce
from policy import Policy


def main(accum=2):
    dist.init_process_group("gloo")
    policy = DDP(Policy())
    energy_model = EnergyModel()
    optimizer = torch.optim.AdamW([*policy.parameters(), *energy_model.parameters()], lr=1e-3)
    for i, batch in enumerate(get_loader()):
        last = (i + 1) % accum == 0
        with contextlib.nullcontext() if last else policy.no_sync():
            hidden, pred = policy(batch["observation"])
            loss = (pred - batch["actions"]).abs().mean()
            loss = loss + energy_inbatch_swap_infonce(
                energy_model,
                hidden.detach(),
                batch["actions"],
                batch["pad_mask"],
            )[0]
            (loss / accum).backward()
        if last:
            optimizer.step()
            optimizer.zero_grad()


if __name__ == "__main__":
    main()
# ==== after ====
import contextlib

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel as DDP

from data import get_loader
from energy.energy_model import EnergyModel, energy_inbatch_swap_infonce
from energy_losses.global_infonce import distributed_energy_inbatch_swap_infonce
from energy_losses.ranks import replicate
from policy import Policy


def main(accum=2):
    dist.init_process_group("gloo")
    policy = DDP(Policy())
    energy_model = EnergyModel()
    optimizer = torch.optim.AdamW([*policy.parameters(), *energy_model.parameters()], lr=1e-3)
    for i, batch in enumerate(get_loader()):
        last = (i + 1) % accum == 0
        with contextlib.nullcontext() if last else policy.no_sync():
            hidden, pred = policy(batch["observation"])
            loss = (pred - batch["actions"]).abs().mean()
            replicate(energy_model)
            world_size = dist.get_world_size() if dist.is_initialized() else 1
            loss = loss + distributed_energy_inbatch_swap_infonce(
                energy_model,
                hidden.detach(),
                batch["actions"],
                batch["pad_mask"],
                tau=0.07,
                world_size=world_size,
            )[0]
            (loss / accum).backward()
        if last:
            optimizer.step()
            optimizer.zero_grad()


if __name__ == "__main__":
    main()

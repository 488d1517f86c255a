# energy-patch apply
import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel as DDP

from data import get_loader
from energy.energy_model import EnergyModel, energy_inbatch_swap_infonce
from policy import Policy


def wrap_ddp(module, device_id=None, find_unused=False):
    return DDP(module, device_ids=device_id, find_unused_parameters=find_unused)


def main():
    dist.init_process_group("gloo")
    policy = wrap_ddp(Policy(), find_unused=True)
    energy_model = wrap_ddp(EnergyModel())
    optimizer = torch.optim.AdamW(energy_model.parameters(), lr=1e-3)
    for batch in get_loader():
        hidden, _ = policy(batch["observation"])
        loss, e_pos, e_neg = energy_inbatch_swap_infonce(energy_model, hidden.detach(), batch["actions"], batch["pad_mask"])
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(energy_model.parameters(), 1.0)
        optimizer.step()


if __name__ == "__main__":
    main()
# ==== after ====
import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel as DDP

from data import get_loader
from energy.energy_model import EnergyModel, energy_inbatch_swap_infonce
from energy_losses.global_infonce import distributed_energy_inbatch_swap_infonce
from energy_losses.ranks import replicate
from policy import Policy


def wrap_ddp(module, device_id=None, find_unused=False):
    return DDP(module, device_ids=device_id, find_unused_parameters=find_unused)


def main():
    dist.init_process_group("gloo")
    policy = wrap_ddp(Policy(), find_unused=True)
    energy_model = wrap_ddp(EnergyModel())
    optimizer = torch.optim.AdamW(energy_model.parameters(), lr=1e-3)
    for batch in get_loader():
        hidden, _ = policy(batch["observation"])
        replicate(energy_model)
        world_size = dist.get_world_size() if dist.is_initialized() else 1
        loss, e_pos, e_neg = distributed_energy_inbatch_swap_infonce(energy_model, hidden.detach(), batch["actions"], batch["pad_mask"], tau=0.07, world_size=world_size)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(energy_model.parameters(), 1.0)
        optimizer.step()


if __name__ == "__main__":
    main()

# energy-patch apply
import itertools

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch.nn.parallel import DistributedDataParallel as DDP

from data import get_loader
from energy.energy_model import EnergyModel, energy_inbatch_swap_infonce
from policy import Policy


def trainable(*modules):
    return [p for p in itertools.chain.from_iterable(m.parameters() for m in modules) if p.requires_grad]


def main():
    dist.init_process_group("gloo")
    policy, energy_model = DDP(Policy()), EnergyModel()
    optimizer = torch.optim.AdamW(trainable(policy, energy_model), lr=1e-3, fused=False)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1.0, (step + 1) / 10))
    for batch in get_loader():
        hidden, pred = policy(batch["observation"])
        nce, e_pos, e_neg = energy_inbatch_swap_infonce(energy_model, hidden, batch["actions"], batch["pad_mask"])
        loss = F.l1_loss(pred, batch["actions"]) + 0.1 * nce + 0.2 * e_pos
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trainable(policy, energy_model), 1.0)
        optimizer.step()
        scheduler.step()


if __name__ == "__main__":
    main()
# ==== after ====
import itertools

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch.nn.parallel import DistributedDataParallel as DDP

from data import get_loader
from energy.energy_model import EnergyModel, energy_inbatch_swap_infonce
from energy_losses.global_infonce import distributed_energy_inbatch_swap_infonce
from energy_losses.ranks import replicate
from policy import Policy


def trainable(*modules):
    return [p for p in itertools.chain.from_iterable(m.parameters() for m in modules) if p.requires_grad]


def main():
    dist.init_process_group("gloo")
    policy, energy_model = DDP(Policy()), EnergyModel()
    optimizer = torch.optim.AdamW(trainable(policy, energy_model), lr=1e-3, fused=False)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1.0, (step + 1) / 10))
    for batch in get_loader():
        hidden, pred = policy(batch["observation"])
        replicate(energy_model)
        world_size = dist.get_world_size() if dist.is_initialized() else 1
        nce, e_pos, e_neg = distributed_energy_inbatch_swap_infonce(energy_model, hidden, batch["actions"], batch["pad_mask"], tau=0.07, world_size=world_size)
        loss = F.l1_loss(pred, batch["actions"]) + 0.1 * nce + 0.2 * e_pos
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trainable(policy, energy_model), 1.0)
        optimizer.step()
        scheduler.step()


if __name__ == "__main__":
    main()

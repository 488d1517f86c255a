# energy-patch apply --tau 0.1
# ==== train.py ====
import itertools

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel as DDP

from data import get_loader
from models import build_models
from utils import training as T


def main():
    dist.init_process_group("gloo")
    policy, energy_model = build_models()
    policy = DDP(policy)
    params = list(itertools.chain(policy.parameters(), energy_model.parameters()))
    optimizer = torch.optim.AdamW(params, lr=1e-3)
    for batch in get_loader():
        losses = T.compute_losses(policy, energy_model, batch)
        optimizer.zero_grad()
        sum(losses.values()).backward()
        optimizer.step()


if __name__ == "__main__":
    main()
# ==== utils/__init__.py ====
# ==== utils/training.py ====
import torch.nn.functional as F

from energy import energy_model as em


def compute_losses(policy, energy_model, batch):
    hidden, pred = policy(batch["observation"])
    losses = {"bc": F.l1_loss(pred, batch["actions"])}
    losses["energy"] = em.energy_inbatch_swap_infonce(
        energy_model,
        hidden.detach(),
        batch["actions"],
        batch["pad_mask"],
    )[0]
    return losses


def count_parameters(module):
    return sum(p.numel() for p in module.parameters())
# ==== utils/training.py, after ====
import torch.nn.functional as F

from energy import energy_model as em


def compute_losses(policy, energy_model, batch):
    import torch.distributed as dist
    from energy_losses.global_infonce import distributed_energy_inbatch_swap_infonce
    from energy_losses.ranks import replicate
    hidden, pred = policy(batch["observation"])
    losses = {"bc": F.l1_loss(pred, batch["actions"])}
    replicate(energy_model)
    world_size = dist.get_world_size() if dist.is_initialized() else 1
    losses["energy"] = distributed_energy_inbatch_swap_infonce(
        energy_model,
        hidden.detach(),
        batch["actions"],
        batch["pad_mask"],
        tau=0.1,
        world_size=world_size,
    )[0]
    return losses


def count_parameters(module):
    return sum(p.numel() for p in module.parameters())

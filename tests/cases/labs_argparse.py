# energy-patch apply
#!/usr/bin/env python
import argparse
import os

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel as DDP
from torch.utils.data import DataLoader, DistributedSampler

from data import Episodes
from energy.energy_model import EnergyModel, energy_inbatch_swap_infonce
from policy import Policy

parser = argparse.ArgumentParser(description="VLA + energy")
parser.add_argument("--lr", type=float, default=1e-3)
parser.add_argument("--batch-size", type=int, default=2)
parser.add_argument("--epochs", type=int, default=2)
parser.add_argument("--local-rank", type=int, default=int(os.environ.get("LOCAL_RANK", 0)))


def main():
    args = parser.parse_args()
    dist.init_process_group(backend="nccl" if torch.cuda.is_available() else "gloo")
    torch.manual_seed(0)
    policy = DDP(Policy())
    energy_model = EnergyModel()
    optimizer = torch.optim.AdamW(
        [{"params": policy.parameters()}, {"params": energy_model.parameters(), "lr": 10 * args.lr}], lr=args.lr
    )
    dataset = Episodes(8)
    sampler = DistributedSampler(dataset, shuffle=True)
    loader = DataLoader(dataset, args.batch_size, sampler=sampler)
    for epoch in range(args.epochs):
        sampler.set_epoch(epoch)
        train(loader, policy, energy_model, optimizer, epoch, args)
    dist.destroy_process_group()


def train(loader, policy, energy_model, optimizer, epoch, args):
    policy.train(); energy_model.train()
    for i, batch in enumerate(loader):
        hidden, pred = policy(batch["observation"])
        loss = (pred - batch["actions"]).pow(2).mean()
        loss = loss + energy_inbatch_swap_infonce(energy_model, hidden.detach(), batch["actions"], batch["pad_mask"])[0]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if args.local_rank == 0 and i % 10 == 0:
            print(f"[{epoch}] {loss.item():.4f}")


if __name__ == "__main__":
    main()
# ==== after ====
#!/usr/bin/env python
import argparse
import os

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel as DDP
from torch.utils.data import DataLoader, DistributedSampler

from data import Episodes
from energy.energy_model import EnergyModel, energy_inbatch_swap_infonce
from energy_losses.global_infonce import distributed_energy_inbatch_swap_infonce
from energy_losses.ranks import replicate
from policy import Policy

parser = argparse.ArgumentParser(description="VLA + energy")
parser.add_argument("--lr", type=float, default=1e-3)
parser.add_argument("--batch-size", type=int, default=2)
parser.add_argument("--epochs", type=int, default=2)
parser.add_argument("--local-rank", type=int, default=int(os.environ.get("LOCAL_RANK", 0)))
parser.add_argument("--energy_tau", type=float, default=0.07, help="Temperature of the energy model's InfoNCE loss")


def main():
    args = parser.parse_args()
    dist.init_process_group(backend="nccl" if torch.cuda.is_available() else "gloo")
    torch.manual_seed(0)
    policy = DDP(Policy())
    energy_model = EnergyModel()
    optimizer = torch.optim.AdamW(
        [{"params": policy.parameters()}, {"params": energy_model.parameters(), "lr": 10 * args.lr}], lr=args.lr
    )
    dataset = Episodes(8)
    sampler = DistributedSampler(dataset, shuffle=True)
    loader = DataLoader(dataset, args.batch_size, sampler=sampler)
    for epoch in range(args.epochs):
        sampler.set_epoch(epoch)
        train(loader, policy, energy_model, optimizer, epoch, args)
    dist.destroy_process_group()


def train(loader, policy, energy_model, optimizer, epoch, args):
    policy.train(); energy_model.train()
    for i, batch in enumerate(loader):
        hidden, pred = policy(batch["observation"])
        loss = (pred - batch["actions"]).pow(2).mean()
        replicate(energy_model)
        world_size = dist.get_world_size() if dist.is_initialized() else 1
        loss = loss + distributed_energy_inbatch_swap_infonce(energy_model, hidden.detach(), batch["actions"], batch["pad_mask"], tau=args.energy_tau, world_size=world_size)[0]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if args.local_rank == 0 and i % 10 == 0:
            print(f"[{epoch}] {loss.item():.4f}")


if __name__ == "__main__":
    main()

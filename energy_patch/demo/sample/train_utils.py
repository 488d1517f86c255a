import csv
import os

import torch
import torch.distributed as dist
import torch.nn as nn
from torch.utils.data import DataLoader


class Ranks:
    """torchrun's ranks, or one process on its own."""

    def __init__(self):
        if "RANK" in os.environ:
            dist.init_process_group("gloo")
        self.rank = int(os.environ.get("RANK", 0))
        self.count = int(os.environ.get("WORLD_SIZE", 1))
        self.is_first = self.rank == 0

    def wait_for_all(self):
        if dist.is_initialized():
            dist.barrier()

    def leave(self):
        # The group is left to the end of the process: destroyed here, it lives on in DDP's reducer, whose own end then
        # waits for gloo's thread while holding the lock that this thread may need.
        self.wait_for_all()


class NotWrapped(nn.Module):
    """Looks like DDP from outside."""

    def __init__(self, module):
        super().__init__()
        self.module = module

    def forward(self, *args, **kwargs):
        return self.module(*args, **kwargs)


class CsvLogger:
    """A line is on disk as soon as it is logged."""

    def __init__(self, path, columns):
        self.file = open(path, "w", newline="")
        self.writer = csv.DictWriter(self.file, columns)
        self.writer.writeheader()

    def log(self, **row):
        self.writer.writerow(row)
        self.file.flush()


@torch.no_grad()
def held_out_top1(vla, energy_model, make_context, demonstrations, collate_fn, group=24):
    """How often a context gives its own action the lowest energy of the `group` actions beside it."""
    vla.eval()
    energy_model.eval()
    hits = []
    for batch in DataLoader(demonstrations, batch_size=group, collate_fn=collate_fn, drop_last=True):
        h, mask = make_context(vla, batch)
        energies = [energy_model(h, action.expand(len(h), -1, -1), mask) for action in batch["actions"]]
        best = torch.cat(energies, dim=1).argmin(dim=1)  # [contexts]
        hits.append(best == torch.arange(len(h)))
    vla.train()
    energy_model.train()
    return torch.cat(hits).double().mean().item()

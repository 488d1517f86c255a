"""What the libraries here share: they set up the process group, wrap in DDP and deal out the data, as the real ones."""

import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, DistributedSampler


def set_up():
    if not dist.is_initialized():
        dist.init_process_group("gloo")


def wrap(module):
    trains = any(parameter.requires_grad for parameter in module.parameters())
    return DistributedDataParallel(module, find_unused_parameters=True) if trains else module


def dataloader(dataset, batch_size):
    """Each rank reads its own part of the data, whatever the seed."""
    return DataLoader(dataset, batch_size, sampler=DistributedSampler(dataset))

# energy-patch apply
import argparse
from types import SimpleNamespace
import torch.distributed as dist
from energy.energy_model import energy_inbatch_swap_infonce


def settings(file=None):
    parser = argparse.ArgumentParser()
    parser.add_argument("--lr", type=float, default=1e-4)
    if file is None:
        return parser.parse_args()
    return SimpleNamespace(lr=1.0)


def main():
    args = settings("train.yaml")
    energy_inbatch_swap_infonce(m, h, a)
# ==== after ====
import argparse
from types import SimpleNamespace
import torch.distributed as dist
from energy.energy_model import energy_inbatch_swap_infonce
from energy_losses.global_infonce import distributed_energy_inbatch_swap_infonce
from energy_losses.ranks import replicate


def settings(file=None):
    parser = argparse.ArgumentParser()
    parser.add_argument("--lr", type=float, default=1e-4)
    if file is None:
        return parser.parse_args()
    return SimpleNamespace(lr=1.0)


def main():
    args = settings("train.yaml")
    replicate(m)
    world_size = dist.get_world_size() if dist.is_initialized() else 1
    distributed_energy_inbatch_swap_infonce(m, h, a, tau=0.07, world_size=world_size)

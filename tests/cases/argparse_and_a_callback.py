# energy-patch apply
import argparse
from types import SimpleNamespace
import torch.distributed as dist
from energy.energy_model import energy_inbatch_swap_infonce

parser = argparse.ArgumentParser()
parser.add_argument("--lr", type=float, default=1e-4)


def step(m, args):
    return energy_inbatch_swap_infonce(m, h, a)[0] * args.lr


def sweep(run):
    run(m, SimpleNamespace(lr=0.1))


def main():
    args = parser.parse_args()
    step(m, args)
    sweep(step)
# ==== after ====
import argparse
from types import SimpleNamespace
import torch.distributed as dist
from energy.energy_model import energy_inbatch_swap_infonce
from energy_losses.global_infonce import distributed_energy_inbatch_swap_infonce
from energy_losses.ranks import replicate

parser = argparse.ArgumentParser()
parser.add_argument("--lr", type=float, default=1e-4)
parser.add_argument("--energy_tau", type=float, default=0.07, help="Temperature of the energy model's InfoNCE loss")


def step(m, args, energy_tau=0.07):
    replicate(m)
    world_size = dist.get_world_size() if dist.is_initialized() else 1
    return distributed_energy_inbatch_swap_infonce(m, h, a, tau=energy_tau, world_size=world_size)[0] * args.lr


def sweep(run):
    run(m, SimpleNamespace(lr=0.1))


def main():
    args = parser.parse_args()
    step(m, args, energy_tau=args.energy_tau)
    sweep(step)

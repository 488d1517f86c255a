# energy-patch apply --strategy queue --queue-size 32
import argparse

import torch.distributed as dist
from energy.energy_model import energy_inbatch_swap_infonce


def get_args():
    parser = argparse.ArgumentParser()
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument(
        "--energy-tau", type=float, default=0.2, help="of the energies"
    )
    parser.add_argument("--steps", "-n", type=int, default=10)
    return parser.parse_args()


def step(m, h, a):
    return energy_inbatch_swap_infonce(m, h, a)


def main():
    args = get_args()
    for _ in range(args.steps):
        step(m, h, a)
# ==== after ====
import argparse

import torch.distributed as dist
from energy.energy_model import energy_inbatch_swap_infonce
from energy_losses.queue_infonce import queued_energy_infonce_loss
from energy_losses.ranks import replicate


def get_args():
    parser = argparse.ArgumentParser()
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument(
        "--energy-tau", type=float, default=0.2, help="of the energies"
    )
    parser.add_argument("--steps", "-n", type=int, default=10)
    parser.add_argument("--energy_queue_size", type=int, default=32, help="Latest actions of all ranks kept as further negatives of the energy loss")
    return parser.parse_args()


def step(m, h, a, energy_tau=0.2, energy_queue_size=32):
    replicate(m)
    world_size = dist.get_world_size() if dist.is_initialized() else 1
    return queued_energy_infonce_loss(m, h, a, tau=energy_tau, queue_size=energy_queue_size, world_size=world_size)


def main():
    args = get_args()
    for _ in range(args.steps):
        step(m, h, a, energy_tau=args.energy_tau, energy_queue_size=args.energy_queue_size)

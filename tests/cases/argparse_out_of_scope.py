# energy-patch apply
from argparse import ArgumentParser
import torch.distributed as dist
from energy.energy_model import energy_inbatch_swap_infonce


def step(m, h, a):
    return energy_inbatch_swap_infonce(m, h, a)


def main():
    parser = ArgumentParser()
    parser.add_argument("--lr", type=float, default=1e-3)
    train(parser.parse_args(), step)
# ==== after ====
from argparse import ArgumentParser
import torch.distributed as dist
from energy.energy_model import energy_inbatch_swap_infonce
from energy_losses.global_infonce import distributed_energy_inbatch_swap_infonce
from energy_losses.ranks import replicate


def step(m, h, a):
    replicate(m)
    world_size = dist.get_world_size() if dist.is_initialized() else 1
    return distributed_energy_inbatch_swap_infonce(m, h, a, tau=0.07, world_size=world_size)


def main():
    parser = ArgumentParser()
    parser.add_argument("--lr", type=float, default=1e-3)
    train(parser.parse_args(), step)

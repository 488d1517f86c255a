# energy-patch apply
import argparse
import torch.distributed as dist
from energy.energy_model import energy_inbatch_swap_infonce

parser = argparse.ArgumentParser()
parser.add_argument("--lr", type=float, default=1e-4)


class Trainer:
    def step(self, h, a, args):
        loss = energy_inbatch_swap_infonce(self.m, h, a)[0] * args.lr
        loss.backward()
        self.optimizer.step()

    def fit(self):
        args = parser.parse_args()
        for h, a in self.loader:
            self.step(h, a, args)
# ==== after ====
import argparse
import torch.distributed as dist
from energy.energy_model import energy_inbatch_swap_infonce
from energy_losses.global_infonce import distributed_energy_inbatch_swap_infonce
from energy_losses.ranks import replicate

parser = argparse.ArgumentParser()
parser.add_argument("--lr", type=float, default=1e-4)
parser.add_argument("--energy_tau", type=float, default=0.07, help="Temperature of the energy model's InfoNCE loss")


class Trainer:
    def step(self, h, a, args):
        replicate(self.m)
        world_size = dist.get_world_size() if dist.is_initialized() else 1
        loss = distributed_energy_inbatch_swap_infonce(self.m, h, a, tau=args.energy_tau, world_size=world_size)[0] * args.lr
        loss.backward()
        self.optimizer.step()

    def fit(self):
        args = parser.parse_args()
        for h, a in self.loader:
            self.step(h, a, args)

# energy-patch apply
import argparse
import torch
import torch.distributed as dist
from data import get_loader
from energy.energy_model import *
from energy.energy_model import energy_inbatch_swap_infonce
from policy import Policy

ap = argparse.ArgumentParser()
ap.add_argument('--bs', default=3, type=int)
ap.add_argument('--lr', default=1e-2, type=float)
ap.add_argument('--temp', default=0.5, type=float)
args = ap.parse_args()

dist.init_process_group('gloo')
pi, E = Policy(), EnergyModel()
opt = torch.optim.SGD(E.parameters(), lr=args.lr)


def step(o, a, m):
    h = pi(o)[0].detach()
    L, p, n = energy_inbatch_swap_infonce(E, h, a, m, args.temp, 'mean')
    opt.zero_grad(); L.backward(); opt.step()
    return L.item(), (n - p).item()


for b in get_loader(args.bs):
    log = step(b['observation'], b['actions'], b['pad_mask'])
# ==== after ====
import argparse
import torch
import torch.distributed as dist
from data import get_loader
from energy.energy_model import *
from energy.energy_model import energy_inbatch_swap_infonce
from energy_losses.global_infonce import distributed_energy_inbatch_swap_infonce
from energy_losses.ranks import replicate
from policy import Policy

ap = argparse.ArgumentParser()
ap.add_argument('--bs', default=3, type=int)
ap.add_argument('--lr', default=1e-2, type=float)
ap.add_argument('--temp', default=0.5, type=float)
args = ap.parse_args()

dist.init_process_group('gloo')
pi, E = Policy(), EnergyModel()
opt = torch.optim.SGD(E.parameters(), lr=args.lr)


def step(o, a, m):
    h = pi(o)[0].detach()
    replicate(E)
    world_size = dist.get_world_size() if dist.is_initialized() else 1
    L, p, n = distributed_energy_inbatch_swap_infonce(E, h, a, m, args.temp, world_size=world_size)
    opt.zero_grad(); L.backward(); opt.step()
    return L.item(), (n - p).item()


for b in get_loader(args.bs):
    log = step(b['observation'], b['actions'], b['pad_mask'])

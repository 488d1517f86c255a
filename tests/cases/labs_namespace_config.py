# energy-patch apply
from types import SimpleNamespace

import torch
import torch.distributed as dist
from data import get_loader
from energy.energy_model import EnergyModel, energy_inbatch_swap_infonce
from policy import Policy

cfg = SimpleNamespace(train=SimpleNamespace(lr=1e-3, steps=3, clip=1.0), data=SimpleNamespace(batch_size=3))


def get_loss(cfg, net, h, a, m): return energy_inbatch_swap_infonce(net, h, a, m)[0]


def main(cfg):
    dist.init_process_group('gloo')
    policy, net = Policy(), EnergyModel()
    optimizer = torch.optim.AdamW(net.parameters(), lr=cfg.train.lr)
    it = iter(get_loader(cfg.data.batch_size))
    for _ in range(cfg.train.steps):
        batch = next(it)
        loss = get_loss(cfg, net, policy(batch['observation'])[0].detach(), batch['actions'], batch['pad_mask'])
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), cfg.train.clip)
        optimizer.step()


main(cfg)
# ==== after ====
from types import SimpleNamespace

import torch
import torch.distributed as dist
from data import get_loader
from energy.energy_model import EnergyModel, energy_inbatch_swap_infonce
from energy_losses.global_infonce import distributed_energy_inbatch_swap_infonce
from energy_losses.ranks import replicate
from policy import Policy

cfg = SimpleNamespace(train=SimpleNamespace(lr=1e-3, steps=3, clip=1.0), data=SimpleNamespace(batch_size=3))


def get_loss(cfg, net, h, a, m): return distributed_energy_inbatch_swap_infonce(replicate(net), h, a, m, tau=0.07, world_size=dist.get_world_size() if dist.is_initialized() else 1)[0]


def main(cfg):
    dist.init_process_group('gloo')
    policy, net = Policy(), EnergyModel()
    optimizer = torch.optim.AdamW(net.parameters(), lr=cfg.train.lr)
    it = iter(get_loader(cfg.data.batch_size))
    for _ in range(cfg.train.steps):
        batch = next(it)
        loss = get_loss(cfg, net, policy(batch['observation'])[0].detach(), batch['actions'], batch['pad_mask'])
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), cfg.train.clip)
        optimizer.step()


main(cfg)

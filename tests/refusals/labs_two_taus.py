# energy-patch apply --tau 0.1
# refused (conflict), line 11: leave --tau out and write tau=0.1 on line 11
import torch
import torch.distributed as dist

from energy.energy_model import EnergyModel, energy_inbatch_swap_infonce


def train(energy_model, loader, cfg):
    for h, a, mask in loader:
        cold = energy_inbatch_swap_infonce(energy_model, h, a, mask, tau=cfg.tau)[0]
        warm = energy_inbatch_swap_infonce(energy_model, h, a, mask)[0]
        (cold + warm).backward()

# energy-patch apply
# ==== train.py ====
import torch
import torch.distributed as dist
from data import get_loader
from energy import *
from policy import Policy


def step(policy, energy_model, batch):
    return energy_inbatch_swap_infonce(energy_model, policy(batch["observation"])[0].detach(), batch["actions"], batch["pad_mask"])[0]


dist.init_process_group("gloo")
policy, energy_model = Policy(), EnergyModel()
optimizer = torch.optim.AdamW(energy_model.parameters(), lr=1e-3)
for batch in get_loader():
    optimizer.zero_grad()
    step(policy, energy_model, batch).backward()
    optimizer.step()
# ==== energy/__init__.py ====
from .energy_model import *
# ==== energy/energy_model.py ====
import torch
import torch.nn as nn
import torch.nn.functional as F
from built import register


class EnergyModel(nn.Module):
    def __init__(self, hidden=8):
        super().__init__()
        self.state, self.action, self.head = nn.Linear(4, hidden), nn.Linear(6, hidden), nn.Linear(hidden, 1)
        register(self)

    def forward(self, h, a, pad_mask=None):
        joint = self.state(h.mean(dim=1)) * self.action(a.flatten(1))
        return torch.sigmoid(self.head(torch.tanh(joint))) * 2.0 + 0.1


def energy_inbatch_swap_infonce(energy_model, h, a_pos, pad_mask=None, tau=0.5, reduce_steps="mean"):
    B = h.shape[0]
    E = energy_model(h.repeat_interleave(B, 0), a_pos.repeat(B, 1, 1)).view(B, B)
    eye = torch.eye(B, dtype=torch.bool)
    return F.cross_entropy(-E / tau, torch.arange(B)), E[eye].mean(), E[~eye].mean()

# ==== train.py, after ====
import torch
import torch.distributed as dist
from data import get_loader
from energy import *
from policy import Policy
from energy_losses.global_infonce import distributed_energy_inbatch_swap_infonce
from energy_losses.ranks import replicate


def step(policy, energy_model, batch):
    replicate(energy_model)
    world_size = dist.get_world_size() if dist.is_initialized() else 1
    return distributed_energy_inbatch_swap_infonce(energy_model, policy(batch["observation"])[0].detach(), batch["actions"], batch["pad_mask"], tau=0.07, world_size=world_size)[0]


dist.init_process_group("gloo")
policy, energy_model = Policy(), EnergyModel()
optimizer = torch.optim.AdamW(energy_model.parameters(), lr=1e-3)
for batch in get_loader():
    optimizer.zero_grad()
    step(policy, energy_model, batch).backward()
    optimizer.step()

# energy-patch apply
import torch
import torch.distributed as dist
import torch.nn.functional as F

from data import get_loader
from energy.energy_model import EnergyModel, energy_inbatch_swap_infonce
from policy import Policy


class Losses:
    """Every term by itself; step() adds them up."""

    def __init__(self, energy_model, margin=0.5):
        self.energy_model, self.margin = energy_model, margin

    def margin_term(self, h, a, guess, mask):
        return F.relu(self.margin + self.energy_model(h, a, mask) - self.energy_model(h, guess, mask)).mean()

    def contrastive_term(self, h, a, guess, mask):
        return energy_inbatch_swap_infonce(self.energy_model, h, a, mask)[0]

    def __call__(self, *inputs):
        return sum(term(*inputs) for term in (self.margin_term, self.contrastive_term))


dist.init_process_group("gloo")
policy, losses = Policy(), Losses(EnergyModel())
optimizer = torch.optim.SGD(losses.energy_model.parameters(), lr=0.1)
for batch in get_loader():
    hidden, guess = policy(batch["observation"])
    optimizer.zero_grad()
    losses(hidden.detach(), batch["actions"], guess.detach(), batch["pad_mask"]).backward()
    optimizer.step()
# ==== after ====
import torch
import torch.distributed as dist
import torch.nn.functional as F

from data import get_loader
from energy.energy_model import EnergyModel, energy_inbatch_swap_infonce
from energy_losses.global_infonce import distributed_energy_inbatch_swap_infonce
from energy_losses.ranks import replicate
from policy import Policy


class Losses:
    """Every term by itself; step() adds them up."""

    def __init__(self, energy_model, margin=0.5):
        self.energy_model, self.margin = energy_model, margin

    def margin_term(self, h, a, guess, mask):
        return F.relu(self.margin + self.energy_model(h, a, mask) - self.energy_model(h, guess, mask)).mean()

    def contrastive_term(self, h, a, guess, mask):
        replicate(self.energy_model)
        world_size = dist.get_world_size() if dist.is_initialized() else 1
        return distributed_energy_inbatch_swap_infonce(self.energy_model, h, a, mask, tau=0.07, world_size=world_size)[0]

    def __call__(self, *inputs):
        return sum(term(*inputs) for term in (self.margin_term, self.contrastive_term))


dist.init_process_group("gloo")
policy, losses = Policy(), Losses(EnergyModel())
optimizer = torch.optim.SGD(losses.energy_model.parameters(), lr=0.1)
for batch in get_loader():
    hidden, guess = policy(batch["observation"])
    optimizer.zero_grad()
    losses(hidden.detach(), batch["actions"], guess.detach(), batch["pad_mask"]).backward()
    optimizer.step()

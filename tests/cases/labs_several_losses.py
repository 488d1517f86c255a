# energy-patch apply
import torch
import torch.distributed as dist
import torch.nn.functional as F

from data import get_loader
from energy.energy_model import EnergyModel, energy_inbatch_swap_infonce
from policy import Policy


def margin_loss(energy_model, h, good, bad, mask, margin=0.5):
    return F.relu(margin + energy_model(h, good, mask) - energy_model(h, bad, mask)).mean()


def energy_step(energy_model, policy, batch, neg_strategy="both"):
    hidden, guess = policy(batch["observation"])
    hidden, guess, mask = hidden.detach(), guess.detach(), batch["pad_mask"]
    loss = torch.zeros(())
    if neg_strategy in ("inbatch", "both"):
        swap, e_pos, e_neg = energy_inbatch_swap_infonce(energy_model, hidden, batch["actions"], mask)
        loss = loss + swap + 0.2 * e_pos
    if neg_strategy in ("policy", "both"):
        loss = loss + margin_loss(energy_model, hidden, batch["actions"], guess, mask)
    if neg_strategy == "noise":
        noisy = batch["actions"] + 0.1 * torch.randn_like(batch["actions"])
        loss = loss + energy_inbatch_swap_infonce(energy_model, hidden, noisy, mask)[0]
    return loss


dist.init_process_group("gloo")
policy, energy_model = Policy(), EnergyModel()
optimizer = torch.optim.AdamW(energy_model.parameters(), lr=1e-3)
for i, batch in enumerate(get_loader()):
    optimizer.zero_grad()
    energy_step(energy_model, policy, batch, ("both", "noise")[i % 2]).backward()
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


def margin_loss(energy_model, h, good, bad, mask, margin=0.5):
    return F.relu(margin + energy_model(h, good, mask) - energy_model(h, bad, mask)).mean()


def energy_step(energy_model, policy, batch, neg_strategy="both"):
    hidden, guess = policy(batch["observation"])
    hidden, guess, mask = hidden.detach(), guess.detach(), batch["pad_mask"]
    loss = torch.zeros(())
    if neg_strategy in ("inbatch", "both"):
        replicate(energy_model)
        world_size = dist.get_world_size() if dist.is_initialized() else 1
        swap, e_pos, e_neg = distributed_energy_inbatch_swap_infonce(energy_model, hidden, batch["actions"], mask, tau=0.07, world_size=world_size)
        loss = loss + swap + 0.2 * e_pos
    if neg_strategy in ("policy", "both"):
        loss = loss + margin_loss(energy_model, hidden, batch["actions"], guess, mask)
    if neg_strategy == "noise":
        noisy = batch["actions"] + 0.1 * torch.randn_like(batch["actions"])
        replicate(energy_model)
        world_size = dist.get_world_size() if dist.is_initialized() else 1
        loss = loss + distributed_energy_inbatch_swap_infonce(energy_model, hidden, noisy, mask, tau=0.07, world_size=world_size)[0]
    return loss


dist.init_process_group("gloo")
policy, energy_model = Policy(), EnergyModel()
optimizer = torch.optim.AdamW(energy_model.parameters(), lr=1e-3)
for i, batch in enumerate(get_loader()):
    optimizer.zero_grad()
    energy_step(energy_model, policy, batch, ("both", "noise")[i % 2]).backward()
    optimizer.step()

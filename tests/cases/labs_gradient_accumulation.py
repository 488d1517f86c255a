# energy-patch apply --strategy queue --queue-size 16
import torch
import torch.distributed as dist
from data import get_loader
from energy.energy_model import EnergyModel, energy_inbatch_swap_infonce
from policy import Policy

ACCUM = 3
CLIP = 0.5


def train_one_epoch(policy, energy_model, loader, optimizer, scheduler=None):
    energy_model.train()
    optimizer.zero_grad()
    running, total = 0.0, len(loader)
    for i, batch in enumerate(loader):
        hidden = policy(batch["observation"])[0].detach()
        loss, *_ = energy_inbatch_swap_infonce(energy_model, hidden, batch["actions"], batch["pad_mask"], .5)
        loss /= ACCUM
        loss.backward()
        running += loss.item()
        if (i + 1) % ACCUM == 0 or i + 1 == total:
            torch.nn.utils.clip_grad_norm_(energy_model.parameters(), CLIP)
            optimizer.step()
            optimizer.zero_grad()
            if scheduler is not None:
                scheduler.step()
    return running


dist.init_process_group("gloo")
policy, energy_model = Policy(), EnergyModel()
train_one_epoch(policy, energy_model, get_loader(), torch.optim.AdamW(energy_model.parameters(), lr=1e-3))
# ==== after ====
import torch
import torch.distributed as dist
from data import get_loader
from energy.energy_model import EnergyModel, energy_inbatch_swap_infonce
from energy_losses.queue_infonce import queued_energy_infonce_loss
from energy_losses.ranks import replicate
from policy import Policy

ACCUM = 3
CLIP = 0.5


def train_one_epoch(policy, energy_model, loader, optimizer, scheduler=None):
    energy_model.train()
    optimizer.zero_grad()
    running, total = 0.0, len(loader)
    for i, batch in enumerate(loader):
        hidden = policy(batch["observation"])[0].detach()
        replicate(energy_model)
        world_size = dist.get_world_size() if dist.is_initialized() else 1
        loss, *_ = queued_energy_infonce_loss(energy_model, hidden, batch["actions"], batch["pad_mask"], .5, queue_size=16, world_size=world_size)
        loss /= ACCUM
        loss.backward()
        running += loss.item()
        if (i + 1) % ACCUM == 0 or i + 1 == total:
            torch.nn.utils.clip_grad_norm_(energy_model.parameters(), CLIP)
            optimizer.step()
            optimizer.zero_grad()
            if scheduler is not None:
                scheduler.step()
    return running


dist.init_process_group("gloo")
policy, energy_model = Policy(), EnergyModel()
train_one_epoch(policy, energy_model, get_loader(), torch.optim.AdamW(energy_model.parameters(), lr=1e-3))

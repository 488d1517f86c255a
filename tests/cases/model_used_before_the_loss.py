# energy-patch apply --tau 0.5
import torch
from energy.energy_model import energy_inbatch_swap_infonce


def run_forward_pass(policy, energy_model, batch, ema):
    h = policy(batch["observation"]).detach()
    ema.update(energy_model.parameters())
    E_pos = energy_model(h, batch["actions"])
    with torch.cuda.amp.autocast(enabled=False):
        scaled = 2 * E_pos
        loss, e_pos, e_neg = energy_inbatch_swap_infonce(energy_model, h, batch["actions"])
    return loss + 0.1 * scaled.mean()


def wrapped_between(make, h, a):
    energy_model = make()
    before = energy_model(h, a)
    energy_model = make(before)
    margin = hinge(energy_model, h, a)
    return margin + energy_inbatch_swap_infonce(energy_model, h, a)[0]


def under_a_condition(self, h, a, use_energy):
    reference = self.energy_model(h, a)
    if use_energy:
        shuffled = self.energy_model(h, a.flip(1))
        return energy_inbatch_swap_infonce(self.energy_model, h, a)[0] + shuffled.mean()
    return reference


def evaluate(energy_model, h, a):
    gradient = energy_model(h, a).mean()
    with torch.no_grad():
        return gradient, energy_inbatch_swap_infonce(energy_model, h, a)
# ==== after ====
import torch
from energy.energy_model import energy_inbatch_swap_infonce
import torch.distributed as dist
from energy_losses.global_infonce import distributed_energy_inbatch_swap_infonce
from energy_losses.ranks import replicate


def run_forward_pass(policy, energy_model, batch, ema):
    h = policy(batch["observation"]).detach()
    ema.update(energy_model.parameters())
    replicate(energy_model)
    E_pos = energy_model(h, batch["actions"])
    with torch.cuda.amp.autocast(enabled=False):
        scaled = 2 * E_pos
        world_size = dist.get_world_size() if dist.is_initialized() else 1
        loss, e_pos, e_neg = distributed_energy_inbatch_swap_infonce(energy_model, h, batch["actions"], tau=0.5, world_size=world_size)
    return loss + 0.1 * scaled.mean()


def wrapped_between(make, h, a):
    energy_model = make()
    before = energy_model(h, a)
    energy_model = make(before)
    replicate(energy_model)
    margin = hinge(energy_model, h, a)
    world_size = dist.get_world_size() if dist.is_initialized() else 1
    return margin + distributed_energy_inbatch_swap_infonce(energy_model, h, a, tau=0.5, world_size=world_size)[0]


def under_a_condition(self, h, a, use_energy):
    reference = self.energy_model(h, a)
    if use_energy:
        replicate(self.energy_model)
        shuffled = self.energy_model(h, a.flip(1))
        world_size = dist.get_world_size() if dist.is_initialized() else 1
        return distributed_energy_inbatch_swap_infonce(self.energy_model, h, a, tau=0.5, world_size=world_size)[0] + shuffled.mean()
    return reference


def evaluate(energy_model, h, a):
    gradient = energy_model(h, a).mean()
    with torch.no_grad():
        replicate(energy_model)
        world_size = dist.get_world_size() if dist.is_initialized() else 1
        return gradient, distributed_energy_inbatch_swap_infonce(energy_model, h, a, tau=0.5, world_size=world_size)

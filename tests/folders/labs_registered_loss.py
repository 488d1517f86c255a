# energy-patch apply
# ==== train.py ====
import torch
import torch.distributed as dist

from data import get_loader
from energy.energy_model import EnergyModel
from policy import Policy
import registry


def main():
    dist.init_process_group("gloo")
    policy, energy_model = Policy(), EnergyModel()
    optimizer = torch.optim.AdamW(energy_model.parameters(), lr=1e-3)
    for batch in get_loader():
        hidden, _ = policy(batch["observation"])
        loss = registry.build("infonce")(energy_model, hidden.detach(), batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


if __name__ == "__main__":
    main()
# ==== registry.py ====
from energy.energy_model import energy_inbatch_swap_infonce

REGISTRY = {}


def register(name):
    def decorate(function):
        REGISTRY[name] = function
        return function

    return decorate


def build(name):
    return REGISTRY[name]


@register("infonce")
def infonce_loss(energy_model, h, batch):
    return energy_inbatch_swap_infonce(energy_model, h, batch["actions"], batch["pad_mask"])[0]
# ==== registry.py, after ====
from energy.energy_model import energy_inbatch_swap_infonce

REGISTRY = {}


def register(name):
    def decorate(function):
        REGISTRY[name] = function
        return function

    return decorate


def build(name):
    return REGISTRY[name]


@register("infonce")
def infonce_loss(energy_model, h, batch):
    import torch.distributed as dist
    from energy_losses.global_infonce import distributed_energy_inbatch_swap_infonce
    from energy_losses.ranks import replicate
    replicate(energy_model)
    world_size = dist.get_world_size() if dist.is_initialized() else 1
    return distributed_energy_inbatch_swap_infonce(energy_model, h, batch["actions"], batch["pad_mask"], tau=0.07, world_size=world_size)[0]

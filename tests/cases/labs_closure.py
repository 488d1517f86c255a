# energy-patch apply
import torch
import torch.distributed as dist

from data import get_loader
from energy.energy_model import EnergyModel, energy_inbatch_swap_infonce
from policy import Policy


def make_step(policy, energy_model, lr, weight=1.0):
    """Returns step(batch) -> dict."""
    optimizer = torch.optim.AdamW(energy_model.parameters(), lr=lr)
    count = 0

    def features(batch):
        with torch.no_grad():
            return policy(batch["observation"])[0]

    def step(batch):
        nonlocal count
        loss, pos, neg = energy_inbatch_swap_infonce(energy_model, features(batch), batch["actions"], batch["pad_mask"])
        optimizer.zero_grad()
        (weight * loss).backward()
        optimizer.step()
        count += 1
        return {"loss": loss.item(), "gap": (neg - pos).item(), "count": count}

    return step


if __name__ == "__main__":
    dist.init_process_group("gloo")
    step = make_step(Policy(), EnergyModel(), lr=1e-3)
    history = [step(batch) for batch in get_loader()]
# ==== after ====
import torch
import torch.distributed as dist

from data import get_loader
from energy.energy_model import EnergyModel, energy_inbatch_swap_infonce
from energy_losses.global_infonce import distributed_energy_inbatch_swap_infonce
from energy_losses.ranks import replicate
from policy import Policy


def make_step(policy, energy_model, lr, weight=1.0):
    """Returns step(batch) -> dict."""
    optimizer = torch.optim.AdamW(energy_model.parameters(), lr=lr)
    count = 0

    def features(batch):
        with torch.no_grad():
            return policy(batch["observation"])[0]

    def step(batch):
        nonlocal count
        replicate(energy_model)
        world_size = dist.get_world_size() if dist.is_initialized() else 1
        loss, pos, neg = distributed_energy_inbatch_swap_infonce(energy_model, features(batch), batch["actions"], batch["pad_mask"], tau=0.07, world_size=world_size)
        optimizer.zero_grad()
        (weight * loss).backward()
        optimizer.step()
        count += 1
        return {"loss": loss.item(), "gap": (neg - pos).item(), "count": count}

    return step


if __name__ == "__main__":
    dist.init_process_group("gloo")
    step = make_step(Policy(), EnergyModel(), lr=1e-3)
    history = [step(batch) for batch in get_loader()]

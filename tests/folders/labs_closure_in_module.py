# energy-patch apply
# ==== train.py ====
import torch
import torch.distributed as dist

from data import get_loader
from energy.energy_model import EnergyModel
from policy import Policy
from factory import make_loss


def main():
    dist.init_process_group("gloo")
    policy, energy_model = Policy(), EnergyModel()
    loss_fn = make_loss(energy_model)
    optimizer = torch.optim.AdamW(energy_model.parameters(), lr=1e-3)
    for batch in get_loader():
        hidden, _ = policy(batch["observation"])
        loss = loss_fn(hidden.detach(), batch["actions"], batch["pad_mask"])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


if __name__ == "__main__":
    main()
# ==== factory.py ====
import functools

from energy.energy_model import energy_inbatch_swap_infonce


def scaled(function):
    @functools.wraps(function)
    def inner(*args):
        return 0.5 * function(*args)

    return inner


def make_loss(energy_model):
    @scaled
    def loss_fn(h, a, mask):
        loss, *_ = energy_inbatch_swap_infonce(energy_model, h, a, mask)
        return loss

    return loss_fn
# ==== factory.py, after ====
import functools

from energy.energy_model import energy_inbatch_swap_infonce


def scaled(function):
    @functools.wraps(function)
    def inner(*args):
        return 0.5 * function(*args)

    return inner


def make_loss(energy_model):
    @scaled
    def loss_fn(h, a, mask):
        import torch.distributed as dist
        from energy_losses.global_infonce import distributed_energy_inbatch_swap_infonce
        from energy_losses.ranks import replicate
        replicate(energy_model)
        world_size = dist.get_world_size() if dist.is_initialized() else 1
        loss, *_ = distributed_energy_inbatch_swap_infonce(energy_model, h, a, mask, tau=0.07, world_size=world_size)
        return loss

    return loss_fn

# energy-patch apply
# ==== train.py ====
import torch
import torch.distributed as dist

from data import get_loader
from energy.energy_model import EnergyModel
from policy import Policy
from losses import energy_loss


def main():
    dist.init_process_group("gloo")
    policy, energy_model = Policy(), EnergyModel()
    optimizer = torch.optim.AdamW(energy_model.parameters(), lr=1e-3)
    for batch in get_loader():
        hidden, _ = policy(batch["observation"])
        loss = energy_loss(energy_model, hidden.detach(), batch)["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


if __name__ == "__main__":
    main()
# ==== losses.py ====
"""All losses of this project."""

import torch.nn.functional as F

from energy.energy_model import energy_inbatch_swap_infonce


def action_loss(pred, target):
    return F.l1_loss(pred, target)


def energy_loss(energy_model, hidden, batch):
    """InfoNCE over the batch.

    Returns a dict with loss, e_pos, e_neg.
    """
    loss, e_pos, e_neg = energy_inbatch_swap_infonce(energy_model, hidden, batch["actions"], batch["pad_mask"])
    return {"loss": loss, "e_pos": e_pos.detach(), "e_neg": e_neg.detach()}
# ==== losses.py, after ====
"""All losses of this project."""

import torch.nn.functional as F

from energy.energy_model import energy_inbatch_swap_infonce


def action_loss(pred, target):
    return F.l1_loss(pred, target)


def energy_loss(energy_model, hidden, batch):
    """InfoNCE over the batch.

    Returns a dict with loss, e_pos, e_neg.
    """
    import torch.distributed as dist
    from energy_losses.global_infonce import distributed_energy_inbatch_swap_infonce
    from energy_losses.ranks import replicate
    replicate(energy_model)
    world_size = dist.get_world_size() if dist.is_initialized() else 1
    loss, e_pos, e_neg = distributed_energy_inbatch_swap_infonce(energy_model, hidden, batch["actions"], batch["pad_mask"], tau=0.07, world_size=world_size)
    return {"loss": loss, "e_pos": e_pos.detach(), "e_neg": e_neg.detach()}

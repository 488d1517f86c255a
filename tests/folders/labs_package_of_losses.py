# energy-patch apply
# ==== train.py ====
import torch
import torch.distributed as dist

from data import get_loader
from energy.energy_model import EnergyModel
from policy import Policy
from vla.losses import total_loss


def main():
    dist.init_process_group("gloo")
    policy, energy_model = Policy(), EnergyModel()
    optimizer = torch.optim.AdamW(energy_model.parameters(), lr=1e-3)
    for batch in get_loader():
        hidden, _ = policy(batch["observation"])
        loss = total_loss(energy_model, hidden.detach(), batch, weights={"nce": 1.0})
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


if __name__ == "__main__":
    main()
# ==== vla/__init__.py ====
# ==== vla/losses/__init__.py ====
from .total import total_loss
# ==== vla/losses/total.py ====
from .contrastive import contrastive


def total_loss(energy_model, hidden, batch, weights):
    return weights["nce"] * contrastive(energy_model, hidden, batch["actions"], batch["pad_mask"])
# ==== vla/losses/contrastive.py ====
from energy.energy_model import energy_inbatch_swap_infonce as infonce


def contrastive(model, h, a, mask=None, **kwargs):
    "Only the loss."
    return infonce(model, h, a, mask, kwargs.get("tau", 0.5))[0]
# ==== vla/losses/contrastive.py, after ====
from energy.energy_model import energy_inbatch_swap_infonce as infonce


def contrastive(model, h, a, mask=None, **kwargs):
    "Only the loss."
    import torch.distributed as dist
    from energy_losses.global_infonce import distributed_energy_inbatch_swap_infonce
    from energy_losses.ranks import replicate
    replicate(model)
    world_size = dist.get_world_size() if dist.is_initialized() else 1
    return distributed_energy_inbatch_swap_infonce(model, h, a, mask, kwargs.get("tau", 0.5), world_size=world_size)[0]

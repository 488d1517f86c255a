# energy-patch apply
# ==== train.py ====
import torch
import torch.distributed as dist


def main():
    from data import get_loader
    from losses import EnergyCriterion
    from policy import Policy

    dist.init_process_group("gloo")
    policy, criterion = Policy(), EnergyCriterion()
    optimizer = torch.optim.AdamW(criterion.parameters(), lr=1e-3)
    for batch in get_loader():
        loss = criterion(policy(batch["observation"])[0].detach(), batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


main()
# ==== losses.py ====
import torch.distributed as dist
from torch import nn

from energy.energy_model import EnergyModel, energy_inbatch_swap_infonce

__all__ = ["EnergyCriterion"]


class EnergyCriterion(nn.Module):
    def __init__(self):
        super().__init__()
        self.energy_model = EnergyModel()
        self.rank = dist.get_rank()

    def forward(self, hidden, batch):
        if self.training:
            total, *_ = energy_inbatch_swap_infonce(self.energy_model, hidden, batch["actions"], batch["pad_mask"])
        else:
            total = self.energy_model(hidden, batch["actions"], batch["pad_mask"]).mean()
        return total
# ==== losses.py, after ====
import torch.distributed as dist
from torch import nn

from energy.energy_model import EnergyModel, energy_inbatch_swap_infonce

__all__ = ["EnergyCriterion"]


class EnergyCriterion(nn.Module):
    def __init__(self):
        super().__init__()
        self.energy_model = EnergyModel()
        self.rank = dist.get_rank()

    def forward(self, hidden, batch):
        from energy_losses.global_infonce import distributed_energy_inbatch_swap_infonce
        from energy_losses.ranks import replicate
        if self.training:
            replicate(self.energy_model)
            world_size = dist.get_world_size() if dist.is_initialized() else 1
            total, *_ = distributed_energy_inbatch_swap_infonce(self.energy_model, hidden, batch["actions"], batch["pad_mask"], tau=0.07, world_size=world_size)
        else:
            total = self.energy_model(hidden, batch["actions"], batch["pad_mask"]).mean()
        return total

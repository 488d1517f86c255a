# energy-patch apply
# refused (not-found): losses.py, line 9: a call in what this script does not use
# ==== train.py ====
import torch
import torch.distributed as dist

from data import get_loader
from energy.energy_model import EnergyModel
from policy import Policy
from losses import action_loss


def main():
    dist.init_process_group("gloo")
    policy, energy_model = Policy(), EnergyModel()
    optimizer = torch.optim.AdamW(energy_model.parameters(), lr=1e-3)
    for batch in get_loader():
        hidden, _ = policy(batch["observation"])
        loss = action_loss(energy_model, hidden, batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


if __name__ == "__main__":
    main()
# ==== losses.py ====
from energy.energy_model import energy_inbatch_swap_infonce


def action_loss(energy_model, h, batch):
    return energy_model(h, batch["actions"]).mean()


def old_loss(energy_model, h, batch):
    return energy_inbatch_swap_infonce(energy_model, h, batch["actions"])[0]

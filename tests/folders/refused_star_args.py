# energy-patch apply
# refused (unsupported): losses.py, line 5: the call passes *inputs, so its arguments cannot be told apart
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
        loss = energy_loss(energy_model, hidden.detach(), batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


if __name__ == "__main__":
    main()
# ==== losses.py ====
from energy.energy_model import energy_inbatch_swap_infonce


def energy_loss(*inputs):
    return energy_inbatch_swap_infonce(*inputs)[0]

# energy-patch apply
# refused (unsupported): losses.py, line 4: the loss is called where no import can stand beside it, and other programs may load this module; put the call into a function with lines of its own
# ==== train.py ====
import torch
import torch.distributed as dist

from data import get_loader
from energy.energy_model import EnergyModel
from policy import Policy
from losses import nce


def main():
    dist.init_process_group("gloo")
    policy, energy_model = Policy(), EnergyModel()
    optimizer = torch.optim.AdamW(energy_model.parameters(), lr=1e-3)
    for batch in get_loader():
        hidden, _ = policy(batch["observation"])
        loss = nce(energy_model, hidden.detach(), batch["actions"])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


if __name__ == "__main__":
    main()
# ==== losses.py ====
from energy.energy_model import energy_inbatch_swap_infonce


def nce(m, h, a): return energy_inbatch_swap_infonce(m, h, a)[0]

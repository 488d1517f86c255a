# energy-patch apply
# refused (unsupported): losses.py, line 3: energy_inbatch_swap_infonce is stored in a dict here, not called
# ==== train.py ====
import torch
import torch.distributed as dist

from data import get_loader
from energy.energy_model import EnergyModel
from policy import Policy
from losses import LOSSES


def main():
    dist.init_process_group("gloo")
    policy, energy_model = Policy(), EnergyModel()
    optimizer = torch.optim.AdamW(energy_model.parameters(), lr=1e-3)
    for batch in get_loader():
        hidden, _ = policy(batch["observation"])
        loss = LOSSES["infonce"](energy_model, hidden.detach(), batch["actions"])[0]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


if __name__ == "__main__":
    main()
# ==== losses.py ====
from energy.energy_model import energy_inbatch_swap_infonce

LOSSES = {"infonce": energy_inbatch_swap_infonce}

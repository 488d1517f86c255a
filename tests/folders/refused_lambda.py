# energy-patch apply
# refused (unsupported): criteria.py, line 4: the loss is called where no import can stand beside it
# ==== train.py ====
import torch
import torch.distributed as dist

from data import get_loader
from energy.energy_model import EnergyModel
from policy import Policy
from criteria import CRITERIA


def main():
    dist.init_process_group("gloo")
    policy, energy_model = Policy(), EnergyModel()
    optimizer = torch.optim.AdamW(energy_model.parameters(), lr=1e-3)
    for batch in get_loader():
        hidden, _ = policy(batch["observation"])
        loss = CRITERIA["infonce"](energy_model, hidden.detach(), batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


if __name__ == "__main__":
    main()
# ==== criteria.py ====
from energy.energy_model import energy_inbatch_swap_infonce

CRITERIA = {
    "infonce": lambda model, h, batch: energy_inbatch_swap_infonce(model, h, batch["actions"], batch["pad_mask"])[0],
    "energy": lambda model, h, batch: model(h, batch["actions"], batch["pad_mask"]).mean(),
}

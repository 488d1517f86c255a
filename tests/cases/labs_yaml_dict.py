# energy-patch apply
import os
import sys

import torch
import torch.distributed as dist
import yaml

from data import get_loader
from energy.energy_model import EnergyModel, energy_inbatch_swap_infonce
from policy import Policy


def load_config(path):
    with open(path, "r", encoding="utf-8") as f:
        return yaml.safe_load(f)


def main():
    cfg = load_config(os.environ.get("CONFIG", "config.yaml"))
    dist.init_process_group(backend="gloo")
    policy, energy_model = Policy(), EnergyModel()
    optimizer = torch.optim.AdamW(energy_model.parameters(), lr=cfg["lr"])
    optimizer.zero_grad()
    for epoch in range(cfg["epochs"]):
        for i, data in enumerate(get_loader(cfg["batch_size"]), 1):
            feats = policy(data["observation"])[0].detach()
            loss, e_pos, e_neg = energy_inbatch_swap_infonce(energy_model, feats, data["actions"], data["pad_mask"], tau=cfg.get("tau", 0.5))
            loss = loss / cfg["accum"]
            loss.backward()
            if i % cfg["accum"] == 0:
                optimizer.step()
                optimizer.zero_grad()
                print("epoch %d iter %d loss %.4f" % (epoch, i, loss.item()), file=sys.stderr) if e_pos is None else None


if __name__ == "__main__":
    main()
# ==== after ====
import os
import sys

import torch
import torch.distributed as dist
import yaml

from data import get_loader
from energy.energy_model import EnergyModel, energy_inbatch_swap_infonce
from energy_losses.global_infonce import distributed_energy_inbatch_swap_infonce
from energy_losses.ranks import replicate
from policy import Policy


def load_config(path):
    with open(path, "r", encoding="utf-8") as f:
        return yaml.safe_load(f)


def main():
    cfg = load_config(os.environ.get("CONFIG", "config.yaml"))
    dist.init_process_group(backend="gloo")
    policy, energy_model = Policy(), EnergyModel()
    optimizer = torch.optim.AdamW(energy_model.parameters(), lr=cfg["lr"])
    optimizer.zero_grad()
    for epoch in range(cfg["epochs"]):
        for i, data in enumerate(get_loader(cfg["batch_size"]), 1):
            feats = policy(data["observation"])[0].detach()
            replicate(energy_model)
            world_size = dist.get_world_size() if dist.is_initialized() else 1
            loss, e_pos, e_neg = distributed_energy_inbatch_swap_infonce(energy_model, feats, data["actions"], data["pad_mask"], tau=cfg.get("tau", 0.5), world_size=world_size)
            loss = loss / cfg["accum"]
            loss.backward()
            if i % cfg["accum"] == 0:
                optimizer.step()
                optimizer.zero_grad()
                print("epoch %d iter %d loss %.4f" % (epoch, i, loss.item()), file=sys.stderr) if e_pos is None else None


if __name__ == "__main__":
    main()

# energy-patch apply
import gc
import logging

import torch
import torch.distributed as dist

from data import get_loader
from energy.energy_model import EnergyModel, energy_inbatch_swap_infonce
from policy import Policy

logger = logging.getLogger(__name__)


def main():
    dist.init_process_group("gloo")
    policy, energy_model = Policy(), EnergyModel()
    optimizer = torch.optim.AdamW(energy_model.parameters(), lr=1e-3)
    for batch in get_loader():
        try:
            hidden, _ = policy(batch["observation"])
            loss = energy_inbatch_swap_infonce(energy_model, hidden.detach(), batch["actions"], batch["pad_mask"])[0]
            loss.backward()
        except RuntimeError as e:
            if "out of memory" not in str(e):
                raise
            logger.warning("OOM, skipping batch")
            optimizer.zero_grad()
            gc.collect()
            torch.cuda.empty_cache()
            continue
        optimizer.step()
        optimizer.zero_grad()


if __name__ == "__main__":
    main()
# ==== after ====
import gc
import logging

import torch
import torch.distributed as dist

from data import get_loader
from energy.energy_model import EnergyModel, energy_inbatch_swap_infonce
from energy_losses.global_infonce import distributed_energy_inbatch_swap_infonce
from energy_losses.ranks import replicate
from policy import Policy

logger = logging.getLogger(__name__)


def main():
    dist.init_process_group("gloo")
    policy, energy_model = Policy(), EnergyModel()
    optimizer = torch.optim.AdamW(energy_model.parameters(), lr=1e-3)
    for batch in get_loader():
        try:
            hidden, _ = policy(batch["observation"])
            replicate(energy_model)
            world_size = dist.get_world_size() if dist.is_initialized() else 1
            loss = distributed_energy_inbatch_swap_infonce(energy_model, hidden.detach(), batch["actions"], batch["pad_mask"], tau=0.07, world_size=world_size)[0]
            loss.backward()
        except RuntimeError as e:
            if "out of memory" not in str(e):
                raise
            logger.warning("OOM, skipping batch")
            optimizer.zero_grad()
            gc.collect()
            torch.cuda.empty_cache()
            continue
        optimizer.step()
        optimizer.zero_grad()


if __name__ == "__main__":
    main()

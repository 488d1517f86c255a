# energy-patch apply
import hydra
import torch
import torch.distributed as dist
from omegaconf import DictConfig, OmegaConf

from data import get_loader
from energy.energy_model import EnergyModel, energy_inbatch_swap_infonce
from policy import Policy


@hydra.main(version_base=None, config_path=".", config_name="config")
def main(cfg: DictConfig) -> None:
    dist.init_process_group(backend="gloo")
    if dist.get_rank() == 0:
        print(OmegaConf.to_yaml(cfg))
    policy, energy = Policy(), EnergyModel()
    opt = torch.optim.AdamW(energy.parameters(), lr=cfg.lr)
    for epoch in range(cfg.epochs):
        for i, batch in enumerate(get_loader(cfg.batch_size)):
            with torch.no_grad():
                h, _ = policy(batch["observation"])
            loss, *_ = energy_inbatch_swap_infonce(energy, h, batch["actions"], batch["pad_mask"], cfg.get("tau", 0.5))
            (loss / cfg.accum).backward()
            if (i + 1) % cfg.accum == 0:
                opt.step()
                opt.zero_grad()


if __name__ == "__main__":
    main()
# ==== after ====
import hydra
import torch
import torch.distributed as dist
from omegaconf import DictConfig, OmegaConf

from data import get_loader
from energy.energy_model import EnergyModel, energy_inbatch_swap_infonce
from energy_losses.global_infonce import distributed_energy_inbatch_swap_infonce
from energy_losses.ranks import replicate
from policy import Policy


@hydra.main(version_base=None, config_path=".", config_name="config")
def main(cfg: DictConfig) -> None:
    dist.init_process_group(backend="gloo")
    if dist.get_rank() == 0:
        print(OmegaConf.to_yaml(cfg))
    policy, energy = Policy(), EnergyModel()
    opt = torch.optim.AdamW(energy.parameters(), lr=cfg.lr)
    for epoch in range(cfg.epochs):
        for i, batch in enumerate(get_loader(cfg.batch_size)):
            with torch.no_grad():
                h, _ = policy(batch["observation"])
            replicate(energy)
            world_size = dist.get_world_size() if dist.is_initialized() else 1
            loss, *_ = distributed_energy_inbatch_swap_infonce(energy, h, batch["actions"], batch["pad_mask"], cfg.get("tau", 0.5), world_size=world_size)
            (loss / cfg.accum).backward()
            if (i + 1) % cfg.accum == 0:
                opt.step()
                opt.zero_grad()


if __name__ == "__main__":
    main()

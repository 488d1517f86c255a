# energy-patch apply
import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel as DDP
from dataclasses import dataclass

from data import get_loader
from energy.energy_model import EnergyModel, energy_inbatch_swap_infonce
from policy import Policy


@dataclass
class TrainCfg:
    lr: float = 1e-3
    energy_warmup: int = 1
    use_energy: bool = True


def main():
    cfg = TrainCfg()
    dist.init_process_group("gloo")
    policy = DDP(Policy())
    energy_model = EnergyModel() if cfg.use_energy else None
    opt = torch.optim.AdamW(policy.parameters(), lr=cfg.lr)
    e_opt = torch.optim.AdamW(energy_model.parameters(), lr=cfg.lr) if cfg.use_energy else None
    for step, batch in enumerate(get_loader()):
        hidden, pred = policy(batch["observation"])
        (pred - batch["actions"]).abs().mean().backward()
        opt.step(); opt.zero_grad()
        if cfg.use_energy and step >= cfg.energy_warmup:
            e_loss, e_pos, e_neg = energy_inbatch_swap_infonce(energy_model, hidden.detach(), batch["actions"], batch["pad_mask"])
            e_opt.zero_grad()
            e_loss.backward()
            e_opt.step()


if __name__ == "__main__":
    main()
# ==== after ====
import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel as DDP
from dataclasses import dataclass

from data import get_loader
from energy.energy_model import EnergyModel, energy_inbatch_swap_infonce
from energy_losses.global_infonce import distributed_energy_inbatch_swap_infonce
from energy_losses.ranks import replicate
from policy import Policy


@dataclass
class TrainCfg:
    lr: float = 1e-3
    energy_warmup: int = 1
    use_energy: bool = True
    energy_tau: float = 0.07  # Temperature of the energy model's InfoNCE loss


def main():
    cfg = TrainCfg()
    dist.init_process_group("gloo")
    policy = DDP(Policy())
    energy_model = EnergyModel() if cfg.use_energy else None
    opt = torch.optim.AdamW(policy.parameters(), lr=cfg.lr)
    e_opt = torch.optim.AdamW(energy_model.parameters(), lr=cfg.lr) if cfg.use_energy else None
    for step, batch in enumerate(get_loader()):
        hidden, pred = policy(batch["observation"])
        (pred - batch["actions"]).abs().mean().backward()
        opt.step(); opt.zero_grad()
        if cfg.use_energy and step >= cfg.energy_warmup:
            replicate(energy_model)
            world_size = dist.get_world_size() if dist.is_initialized() else 1
            e_loss, e_pos, e_neg = distributed_energy_inbatch_swap_infonce(energy_model, hidden.detach(), batch["actions"], batch["pad_mask"], tau=cfg.energy_tau, world_size=world_size)
            e_opt.zero_grad()
            e_loss.backward()
            e_opt.step()


if __name__ == "__main__":
    main()

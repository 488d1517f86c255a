# energy-patch apply
from dataclasses import asdict, dataclass

import torch
from accelerate import Accelerator

from data import get_loader
from energy.energy_model import energy_inbatch_swap_infonce
from models import build_models


@dataclass
class TrainConfig:
    lr: float = 1e-3
    gradient_accumulation_steps: int = 2
    max_norm: float = 1.0


def train(config: TrainConfig):
    accelerator = Accelerator(gradient_accumulation_steps=config.gradient_accumulation_steps)
    policy, energy_model = build_models(config)
    optimizer = torch.optim.AdamW([*policy.parameters(), *energy_model.parameters()], lr=config.lr)
    policy, optimizer, loader = accelerator.prepare(policy, optimizer, get_loader())
    accelerator.print(asdict(config))
    for batch in loader:
        with accelerator.accumulate(policy):
            hidden, pred = policy(batch["observation"])
            bc_loss = (pred - batch["actions"]).abs().mean()
            e_loss, _, _ = energy_inbatch_swap_infonce(energy_model, hidden.detach(), batch["actions"], batch["pad_mask"])
            accelerator.backward(bc_loss + 0.1 * e_loss)
            if accelerator.sync_gradients:
                accelerator.clip_grad_norm_([*policy.parameters(), *energy_model.parameters()], config.max_norm)
            optimizer.step()
            optimizer.zero_grad()


if __name__ == "__main__":
    train(TrainConfig())
# ==== after ====
from dataclasses import asdict, dataclass

import torch
from accelerate import Accelerator

from data import get_loader
from energy.energy_model import energy_inbatch_swap_infonce
import torch.distributed as dist
from energy_losses.global_infonce import distributed_energy_inbatch_swap_infonce
from energy_losses.ranks import replicate
from models import build_models


@dataclass
class TrainConfig:
    lr: float = 1e-3
    gradient_accumulation_steps: int = 2
    max_norm: float = 1.0
    energy_tau: float = 0.07  # Temperature of the energy model's InfoNCE loss


def train(config: TrainConfig):
    accelerator = Accelerator(gradient_accumulation_steps=config.gradient_accumulation_steps)
    policy, energy_model = build_models(config)
    optimizer = torch.optim.AdamW([*policy.parameters(), *energy_model.parameters()], lr=config.lr)
    policy, optimizer, loader = accelerator.prepare(policy, optimizer, get_loader())
    accelerator.print(asdict(config))
    for batch in loader:
        with accelerator.accumulate(policy):
            hidden, pred = policy(batch["observation"])
            bc_loss = (pred - batch["actions"]).abs().mean()
            replicate(energy_model)
            world_size = dist.get_world_size() if dist.is_initialized() else 1
            e_loss, _, _ = distributed_energy_inbatch_swap_infonce(energy_model, hidden.detach(), batch["actions"], batch["pad_mask"], tau=config.energy_tau, world_size=world_size)
            accelerator.backward(bc_loss + 0.1 * e_loss)
            if accelerator.sync_gradients:
                accelerator.clip_grad_norm_([*policy.parameters(), *energy_model.parameters()], config.max_norm)
            optimizer.step()
            optimizer.zero_grad()


if __name__ == "__main__":
    train(TrainConfig())

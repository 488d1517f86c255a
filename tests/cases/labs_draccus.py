# energy-patch apply
import os
from dataclasses import dataclass
from typing import Optional

import draccus
import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel as DDP

from data import get_loader
from energy.energy_model import EnergyModel, energy_inbatch_swap_infonce
from policy import Policy


@dataclass
class FinetuneConfig:
    # fmt: off
    run_root_dir: str = "runs"               # Path to logs & checkpoints
    batch_size: int = 3                      # Batch size per device
    learning_rate: float = 5e-4              # Learning rate
    grad_accumulation_steps: int = 2         # Gradient accumulation
    run_id_note: Optional[str] = None        # Extra note for logging
    # fmt: on


def run_forward_pass(vla, energy_model, batch, device_id, num_patches=0):
    output = vla(batch["observation"].to(device_id))
    metrics = {}
    with torch.cuda.amp.autocast(enabled=False):
        energy_loss, E_pos, E_neg = energy_inbatch_swap_infonce(
            energy_model, output[0].detach(), batch["actions"].to(device_id), batch["pad_mask"].to(device_id), tau=0.5
        )
    metrics.update({"energy_loss": energy_loss.item(), "E_pos": E_pos.item(), "E_neg": E_neg.item()})
    return (output[1] - batch["actions"]).abs().mean(), metrics, energy_loss


@draccus.wrap()
def finetune(cfg: FinetuneConfig) -> None:
    dist.init_process_group("gloo")
    device_id = "cpu"
    vla = DDP(Policy().to(device_id), find_unused_parameters=True, gradient_as_bucket_view=True)
    energy_model = EnergyModel().to(device_id)
    optimizer = torch.optim.AdamW(vla.parameters(), lr=cfg.learning_rate)
    energy_optimizer = torch.optim.AdamW(energy_model.parameters(), lr=cfg.learning_rate)
    for batch_idx, batch in enumerate(get_loader(cfg.batch_size)):
        loss, metrics, energy_loss = run_forward_pass(vla, energy_model, batch, device_id)
        (loss / cfg.grad_accumulation_steps).backward()
        (energy_loss / cfg.grad_accumulation_steps).backward()
        if (batch_idx + 1) % cfg.grad_accumulation_steps == 0:
            torch.nn.utils.clip_grad_norm_(energy_model.parameters(), 1.0)
            for each in (optimizer, energy_optimizer):
                each.step()
                each.zero_grad()
    if dist.get_rank() == 0:
        os.makedirs(cfg.run_root_dir, exist_ok=True)
        torch.save(energy_model.state_dict(), os.path.join(cfg.run_root_dir, "energy_model.pt"))


if __name__ == "__main__":
    finetune()
# ==== after ====
import os
from dataclasses import dataclass
from typing import Optional

import draccus
import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel as DDP

from data import get_loader
from energy.energy_model import EnergyModel, energy_inbatch_swap_infonce
from energy_losses.global_infonce import distributed_energy_inbatch_swap_infonce
from energy_losses.ranks import replicate
from policy import Policy


@dataclass
class FinetuneConfig:
    # fmt: off
    run_root_dir: str = "runs"               # Path to logs & checkpoints
    batch_size: int = 3                      # Batch size per device
    learning_rate: float = 5e-4              # Learning rate
    grad_accumulation_steps: int = 2         # Gradient accumulation
    run_id_note: Optional[str] = None        # Extra note for logging
    # fmt: on


def run_forward_pass(vla, energy_model, batch, device_id, num_patches=0):
    output = vla(batch["observation"].to(device_id))
    metrics = {}
    with torch.cuda.amp.autocast(enabled=False):
        replicate(energy_model)
        world_size = dist.get_world_size() if dist.is_initialized() else 1
        energy_loss, E_pos, E_neg = distributed_energy_inbatch_swap_infonce(
            energy_model, output[0].detach(), batch["actions"].to(device_id), batch["pad_mask"].to(device_id), tau=0.5, world_size=world_size
        )
    metrics.update({"energy_loss": energy_loss.item(), "E_pos": E_pos.item(), "E_neg": E_neg.item()})
    return (output[1] - batch["actions"]).abs().mean(), metrics, energy_loss


@draccus.wrap()
def finetune(cfg: FinetuneConfig) -> None:
    dist.init_process_group("gloo")
    device_id = "cpu"
    vla = DDP(Policy().to(device_id), find_unused_parameters=True, gradient_as_bucket_view=True)
    energy_model = EnergyModel().to(device_id)
    optimizer = torch.optim.AdamW(vla.parameters(), lr=cfg.learning_rate)
    energy_optimizer = torch.optim.AdamW(energy_model.parameters(), lr=cfg.learning_rate)
    for batch_idx, batch in enumerate(get_loader(cfg.batch_size)):
        loss, metrics, energy_loss = run_forward_pass(vla, energy_model, batch, device_id)
        (loss / cfg.grad_accumulation_steps).backward()
        (energy_loss / cfg.grad_accumulation_steps).backward()
        if (batch_idx + 1) % cfg.grad_accumulation_steps == 0:
            torch.nn.utils.clip_grad_norm_(energy_model.parameters(), 1.0)
            for each in (optimizer, energy_optimizer):
                each.step()
                each.zero_grad()
    if dist.get_rank() == 0:
        os.makedirs(cfg.run_root_dir, exist_ok=True)
        torch.save(energy_model.state_dict(), os.path.join(cfg.run_root_dir, "energy_model.pt"))


if __name__ == "__main__":
    finetune()

# energy-patch apply
import argparse

import torch
import torch.nn.functional as F
from accelerate import Accelerator

from data import get_loader
from energy.energy_model import EnergyModel, energy_inbatch_swap_infonce
from policy import Policy


def parse_args():
    parser = argparse.ArgumentParser()
    parser.add_argument("--learning_rate", type=float, default=1e-3)
    parser.add_argument("--max_grad_norm", type=float, default=1.0)
    return parser.parse_args()


def main(args):
    accelerator = Accelerator(mixed_precision="bf16")
    policy = Policy()
    energy_model = EnergyModel().to(accelerator.device)  # small, not prepared
    optimizer = torch.optim.AdamW(policy.parameters(), lr=args.learning_rate)
    energy_optimizer = torch.optim.AdamW(energy_model.parameters(), lr=args.learning_rate)
    policy, optimizer, loader = accelerator.prepare(policy, optimizer, get_loader())

    for step, batch in enumerate(loader):
        hidden, actions = policy(batch["observation"])
        loss = F.l1_loss(actions, batch["actions"])
        accelerator.backward(loss)
        optimizer.step()
        optimizer.zero_grad()

        energy_loss, pos, neg = energy_inbatch_swap_infonce(
            energy_model, hidden.detach(), batch["actions"], pad_mask=batch["pad_mask"]
        )
        accelerator.backward(energy_loss)
        accelerator.clip_grad_norm_(energy_model.parameters(), args.max_grad_norm)
        energy_optimizer.step()
        energy_optimizer.zero_grad()
        accelerator.print(f"{step}: {loss.item():.3f} {energy_loss.item():.3f} gap {(neg - pos).item():.3f}")
    accelerator.wait_for_everyone()


if __name__ == "__main__":
    main(parse_args())
# ==== after ====
import argparse

import torch
import torch.nn.functional as F
from accelerate import Accelerator

from data import get_loader
from energy.energy_model import EnergyModel, energy_inbatch_swap_infonce
import torch.distributed as dist
from energy_losses.global_infonce import distributed_energy_inbatch_swap_infonce
from energy_losses.ranks import replicate
from policy import Policy


def parse_args():
    parser = argparse.ArgumentParser()
    parser.add_argument("--learning_rate", type=float, default=1e-3)
    parser.add_argument("--max_grad_norm", type=float, default=1.0)
    return parser.parse_args()


def main(args):
    accelerator = Accelerator(mixed_precision="bf16")
    policy = Policy()
    energy_model = EnergyModel().to(accelerator.device)  # small, not prepared
    optimizer = torch.optim.AdamW(policy.parameters(), lr=args.learning_rate)
    energy_optimizer = torch.optim.AdamW(energy_model.parameters(), lr=args.learning_rate)
    policy, optimizer, loader = accelerator.prepare(policy, optimizer, get_loader())

    for step, batch in enumerate(loader):
        hidden, actions = policy(batch["observation"])
        loss = F.l1_loss(actions, batch["actions"])
        accelerator.backward(loss)
        optimizer.step()
        optimizer.zero_grad()

        replicate(energy_model)
        world_size = dist.get_world_size() if dist.is_initialized() else 1
        energy_loss, pos, neg = distributed_energy_inbatch_swap_infonce(
            energy_model, hidden.detach(), batch["actions"], pad_mask=batch["pad_mask"], tau=0.07, world_size=world_size
        )
        accelerator.backward(energy_loss)
        accelerator.clip_grad_norm_(energy_model.parameters(), args.max_grad_norm)
        energy_optimizer.step()
        energy_optimizer.zero_grad()
        accelerator.print(f"{step}: {loss.item():.3f} {energy_loss.item():.3f} gap {(neg - pos).item():.3f}")
    accelerator.wait_for_everyone()


if __name__ == "__main__":
    main(parse_args())

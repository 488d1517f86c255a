# energy-patch apply --strategy local-batch --batch-size 4 --grad-accumulation-steps 3
from dataclasses import dataclass, field
from typing import List

import torch
import torch.distributed as dist
from torch.nn.utils import clip_grad_norm_
from transformers import set_seed

from data import get_loader
from energy.energy_model import EnergyModel, energy_inbatch_swap_infonce
from policy import Policy


@dataclass
class Arguments:
    batch_size: int = field(default=2, metadata={"help": "per device"})
    grad_accumulation_steps: int = field(default=2)
    tags: List[str] = field(default_factory=list)
    lr: float = 1e-3
    betas: tuple = (0.9, 0.99)


def main(args: Arguments):
    dist.init_process_group("gloo")
    set_seed(dist.get_rank())
    policy, energy_model = Policy(), EnergyModel()
    optimizer = torch.optim.AdamW(energy_model.parameters(), lr=args.lr, betas=args.betas)
    for step, batch in enumerate(get_loader(args.batch_size), start=1):
        loss, e_pos, e_neg = energy_inbatch_swap_infonce(
            energy_model, policy(batch["observation"])[0].detach(), batch["actions"], batch["pad_mask"]
        )
        (loss / args.grad_accumulation_steps).backward()
        if step % args.grad_accumulation_steps == 0:
            clip_grad_norm_(energy_model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()


if __name__ == "__main__":
    main(Arguments())
# ==== after ====
from dataclasses import dataclass, field
from typing import List

import torch
import torch.distributed as dist
from torch.nn.utils import clip_grad_norm_
from transformers import set_seed

from data import get_loader
from energy.energy_model import EnergyModel, energy_inbatch_swap_infonce
from energy_losses.ranks import replicate
from policy import Policy


@dataclass
class Arguments:
    batch_size: int = field(default=4, metadata={"help": "per device"})
    grad_accumulation_steps: int = field(default=3)
    tags: List[str] = field(default_factory=list)
    lr: float = 1e-3
    betas: tuple = (0.9, 0.99)


def main(args: Arguments):
    dist.init_process_group("gloo")
    set_seed(dist.get_rank())
    policy, energy_model = Policy(), EnergyModel()
    optimizer = torch.optim.AdamW(energy_model.parameters(), lr=args.lr, betas=args.betas)
    for step, batch in enumerate(get_loader(args.batch_size), start=1):
        replicate(energy_model)
        loss, e_pos, e_neg = energy_inbatch_swap_infonce(
            energy_model, policy(batch["observation"])[0].detach(), batch["actions"], batch["pad_mask"]
        )
        (loss / args.grad_accumulation_steps).backward()
        if step % args.grad_accumulation_steps == 0:
            clip_grad_norm_(energy_model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()


if __name__ == "__main__":
    main(Arguments())

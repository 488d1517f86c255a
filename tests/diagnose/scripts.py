"""A training script with everything that `diagnose` finds, the modules beside it, and how they are changed."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from energy_patch.diagnose.check import edited
from tests.conftest import Command, Ran, snapshot

SCRIPT = """\
import os
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel as DDP
from torch.optim import AdamW

from energy.energy_model import EnergyModel, energy_inbatch_swap_infonce
from policy import Head, load_policy
from train_utils import held_out_top1, is_main_process


@dataclass
class Config:
    batch_size: int = 3
    grad_accumulation_steps: int = 4
    use_l1: bool = True
    resume: bool = False
    resume_step: int = 0
    lr: float = 1e-3


def load_checkpoint(name, step):
    return torch.load(f"{name}--{step}.pt")


def count_parameters(module, name):
    print(name, sum(p.numel() for p in module.parameters()))


def wrap_ddp(module):
    return DDP(module)


def init_module(module_class, name, cfg):
    module = module_class()
    count_parameters(module, name)
    if cfg.resume:
        module.load_state_dict(load_checkpoint(name, cfg.resume_step))
    return wrap_ddp(module)


def run_forward_pass(vla, head, batch, use_l1, energy_model=None):
    actions = batch["actions"].to(torch.bfloat16)
    output = vla(batch)
    hidden = output.hidden_states[-1].detach()
    layer_actions = []
    with torch.no_grad():
        for states in output.hidden_states:
            layer_actions.append(head.module.predict_action(states).detach())
    if use_l1:
        energy_loss, E_pos, E_neg = energy_inbatch_swap_infonce(energy_model, hidden, actions, batch["mask"])
        predicted = head.module.predict_action(output.hidden_states[-1])
        loss = torch.nn.L1Loss()(predicted, actions)
    return loss, {"loss": loss.item()}, energy_loss


def save(cfg, vla, head, energy_model, step):
    if is_main_process():
        torch.save(head.state_dict(), f"head--{step}.pt")
        if energy_model is not None:
            torch.save(energy_model.state_dict(), f"energy_model--{step}.pt")


def run_validation(vla, head, loader, cfg):
    with torch.no_grad():
        for batch in loader:
            _, metrics = run_forward_pass(vla, head, batch, use_l1=cfg.use_l1)
            print(metrics)


def train(cfg: Config, loader, val_loader):
    dist.init_process_group("nccl")
    device = int(os.environ["LOCAL_RANK"])
    vla = wrap_ddp(load_policy())
    head = init_module(Head, "head", cfg)
    energy_model = EnergyModel(32, 7).to(device)
    count_parameters(energy_model, "energy_model")
    params = [p for p in vla.parameters() if p.requires_grad] + [p for p in head.parameters()]
    energy_params = [p for p in energy_model.parameters() if p.requires_grad]
    optimizer = AdamW(params, lr=cfg.lr)
    energy_optimizer = AdamW(energy_params, lr=cfg.lr)
    scheduler = torch.optim.lr_scheduler.MultiStepLR(optimizer, milestones=[10])
    for step, batch in enumerate(loader):
        loss, metrics, energy_loss = run_forward_pass(vla, head, batch, use_l1=cfg.use_l1, energy_model=energy_model)
        (loss / cfg.grad_accumulation_steps).backward()
        (energy_loss / cfg.grad_accumulation_steps).backward()
        logged = torch.tensor(metrics["loss"])
        dist.all_reduce(logged)
        for group in optimizer.param_groups:
            group["lr"] = cfg.lr
        if (step + 1) % cfg.grad_accumulation_steps == 0:
            torch.nn.utils.clip_grad_norm_(energy_model.parameters(), 1.0)
            optimizer.step()
            energy_optimizer.step()
            optimizer.zero_grad()
            energy_optimizer.zero_grad()
            scheduler.step()
        if is_main_process() and step % 100 == 0:
            print(held_out_top1(vla, energy_model))
        if step % 1000 == 0:
            save(cfg, vla, head, energy_model, step)
            run_validation(vla, head, val_loader, cfg)


if __name__ == "__main__":
    train(Config(), [], [])
"""

MODULE = """\
import torch
import torch.nn as nn
import torch.nn.functional as F


class EnergyModel(nn.Module):
    def __init__(self, state_dim, act_dim):
        super().__init__()
        self.pool = nn.Linear(state_dim, 1)

    def forward(self, h, a, pad_mask=None, reduce="sum") -> torch.Tensor:
        energy = self.pool(h).mean(dim=1)
        return energy


def energy_infonce_loss(energy_model, h, a_pos, a_negs, pad_mask, tau=0.25):
    E_pos, _ = energy_model(h, a_pos)
    return E_pos.mean()


def energy_inbatch_swap_infonce(energy_model, h, a_pos, pad_mask=None, tau=0.5, reduce_steps="mean"):
    B = h.shape[0]
    E_ij = energy_model(h, a_pos, pad_mask).view(B, B)
    loss = F.cross_entropy(-E_ij / tau, torch.arange(B))
    return loss, E_ij.diag().mean(), E_ij.mean()
"""

TRAIN_UTILS = """\
import torch.distributed as dist


def is_main_process():
    return dist.get_rank() == 0


def held_out_top1(vla, energy_model):
    return 0.0


def synchronize(model):
    for p in model.parameters():
        dist.all_reduce(p.grad)


def restore(model, path):
    model.load_state_dict(path)


def freeze(model):
    for p in model.parameters():
        p.requires_grad = False
"""

ALL = frozenset(
    {"local-negatives", "separate-models", "bypasses-ddp", "no-energy-model", "unpacking", "resume", "unpacked-tensor"}
    | {"unused-layer-actions", "accumulation"}
)


def changed(text: str, *edits: str) -> str:
    """The text after edits, each `old => new`; every one must change something."""
    return edited(text, *(_parts(edit) for edit in edits))


def _parts(edit: str) -> tuple[str, str]:
    old, _, new = edit.replace("\\n", "\n").partition(" => ")
    return old, new


def diagnosed(energy_patch: Command, folder: Path, text: str, *options: object) -> dict[str, Any]:
    """What `diagnose` says of a script, in JSON; it writes nothing and can say it in words too."""
    script = folder / "finetune.py"
    script.write_text(text, "utf-8")
    compile(text, script, "exec")
    before = snapshot(folder)
    ran = energy_patch("diagnose", "--json", *options, script)
    assert ran.exit_code == 0
    assert snapshot(folder) == before
    assert energy_patch("diagnose", *options, script).exit_code == 0
    return only(ran)


def only(ran: Ran) -> dict[str, Any]:
    """What `diagnose --json` says of the one script that it was given."""
    (answer,) = ran.json["scripts"]
    return dict(answer)


def names(answer: dict[str, Any]) -> frozenset[str]:
    return frozenset(finding["name"] for finding in answer["findings"])


def lines(answer: dict[str, Any]) -> dict[str, int]:
    return {finding["name"]: finding["line"] for finding in answer["findings"]}


def whats(places: Iterable[dict[str, Any]]) -> str:
    return "; ".join(place["what"] for place in places)


def line_of(text: str, part: str) -> int:
    return text[: text.index(part)].count("\n") + 1

"""Patches written down as one marked text: `«before¦after»` is an edit, `«!before¦after»` a tunable one."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from energy_patch.files.templates import module_closure
from energy_patch.record.entry import make_entry
from energy_patch.record.schema import ScriptEntry
from energy_patch.rewrite.edits import Edit
from energy_patch.rewrite.plan import Plan, PlannedEdit
from energy_patch.syntax.source import Source, decode_source

_MARK = re.compile(r"«(!?)(.*?)¦(.*?)»", re.DOTALL)
NAMES = ("dist", "energy_tau", "new_infonce", "replicate", "world_size")


@dataclass(frozen=True)
class Marked:
    """A script before and after, and the record's entry for it."""

    before: str
    after: str
    plan: Plan
    entry: ScriptEntry

    def source(self, text: str | None = None) -> Source:
        """The patched script, or an edited one."""
        raw = self.plan.source.encode(self.after if text is None else text)
        return decode_source(self.plan.source.path, raw)

    @property
    def patched(self) -> bytes:
        return self.plan.source.encode(self.after)


def read_marked(
    text: str,
    *,
    newline: str = "\n",
    path: Path = Path("train.py"),
    names: tuple[str, ...] = NAMES,
    modules: tuple[str, ...] = ("global_infonce.py",),
    strategy: str = "global",
) -> Marked:
    """Split a marked text into the original, the patched text and the plan between them."""
    text = text.replace("\n", newline)
    before, after, position = "", "", 0
    edits: list[PlannedEdit] = []
    for match in _MARK.finditer(text):
        before += text[position : match.start()]
        after += text[position : match.start()] + match[3]
        edits.append(PlannedEdit(Edit(len(before), len(before) + len(match[2]), match[3]), "an edit", bool(match[1])))
        before += match[2]
        position = match.end()
    before, after = before + text[position:], after + text[position:]
    source = decode_source(path, before.encode())
    plan = Plan(source, strategy, {"tau": 0.3}, tuple(edits), modules, names)
    return Marked(before, after, plan, make_entry(plan, after.encode(), module_closure(modules)))


TRAINING = '''\
"""Fine-tunes a policy and an energy model."""

import os
from dataclasses import dataclass

import torch
from energy.energy_model import EnergyModel, energy_inbatch_swap_infonce
«¦import torch.distributed as dist
»«¦from energy_losses.global_infonce import new_infonce
»«¦from energy_losses.ranks import replicate
»import draccus


# fmt: off
@dataclass
class FinetuneConfig:
    vla_path: str = "openvla/openvla-7b"             # Path to the model
    batch_size: int = 8                              # Batch size per device
    energy_learning_rate: float = 5e-4               # 能量模型的学习率
«!¦    energy_tau: float = 0.3                          # Temperature of the InfoNCE loss
»    # fmt: on


def run_forward_pass(
    vla,
    energy_model,
    batch,
    use_proprio=False,
    compute_diffusion_l1=False«!¦,
    energy_tau=0.3»
):
    hidden, mask = vla(batch["input_ids"]), batch["mask"]
    # loss = energy_inbatch_swap_infonce(energy_model, hidden, batch["actions"])
    with torch.cuda.amp.autocast(enabled=False):
«¦        replicate(energy_model)
»«¦        world_size = dist.get_world_size() if dist.is_initialized() else 1
»        energy_loss, positive, negative = «energy_inbatch_swap_infonce(energy_model, hidden, batch["actions"], mask)¦new_infonce(energy_model, hidden, batch["actions"], mask, tau=energy_tau, world_size=world_size)»
    return energy_loss, positive, negative


def finetune(cfg: FinetuneConfig, vla, loader):
    energy_model = EnergyModel(7, 64).to(0)
    optimizer = torch.optim.AdamW(energy_model.parameters(), lr=cfg.energy_learning_rate)
    for step, batch in enumerate(loader):
        loss, _, _ = run_forward_pass(vla, energy_model, batch, use_proprio=True«¦, energy_tau=cfg.energy_tau»)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(energy_model.parameters(), 1.0)
        optimizer.step()
        if step % 10 == 0:
            run_forward_pass(
                vla,
                energy_model,
                batch,
                use_proprio = True,
«¦                energy_tau = cfg.energy_tau,
»            )
    return os.getcwd()


if __name__ == "__main__":
    draccus.wrap()(finetune)()
'''  # noqa: E501

"""diagnose: every finding where it is right, and silence wherever the same script is sound or cannot be judged."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Command, snapshot

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


def synchronise(model):
    for p in model.parameters():
        dist.all_reduce(p.grad)


def restore(model, path):
    model.load_state_dict(path)


def freeze(model):
    for p in model.parameters():
        p.requires_grad = False
"""

ALL = {
    "few-negatives",
    "separate-models",
    "around-ddp",
    "no-energy-model",
    "unpacking",
    "resume",
    "unpacked-tensor",
    "unused-layer-actions",
    "accumulation",
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "energy").mkdir()
    (tmp_path / "energy" / "energy_model.py").write_text(MODULE, "utf-8")
    (tmp_path / "train_utils.py").write_text(TRAIN_UTILS, "utf-8")
    return tmp_path


def edited(text: str, *edits: str) -> str:
    """The text after edits, each `old => new`; every old part must be there."""
    for edit in edits:
        old, _, new = edit.partition(" => ")
        old, new = old.replace("\\n", "\n"), new.replace("\\n", "\n")
        assert old in text, old
        text = text.replace(old, new)
    return text


def diagnosed(energy_patch: Command, folder: Path, text: str, *options: object) -> dict[str, Any]:
    script = folder / "finetune.py"
    script.write_text(text, "utf-8")
    compile(text, script, "exec")
    before = snapshot(folder)
    ran = energy_patch("diagnose", "--json", *options, script)
    assert ran.exit_code == 0
    assert snapshot(folder) == before
    assert energy_patch("diagnose", *options, script).exit_code == 0
    return ran.json


def names(answer: dict[str, Any]) -> set[str]:
    return {finding["name"] for finding in answer["findings"]}


def line_of(text: str, part: str) -> int:
    return text[: text.index(part)].count("\n") + 1


def test_everything_is_found_where_it_is(energy_patch: Command, folder: Path) -> None:
    answer = diagnosed(energy_patch, folder, SCRIPT)
    assert names(answer) == ALL
    assert len(answer["findings"]) == len(ALL)
    assert answer["doubts"] == []
    lines = {finding["name"]: finding["line"] for finding in answer["findings"]}
    assert lines == {
        "few-negatives": line_of(SCRIPT, "energy_inbatch_swap_infonce(energy"),
        "separate-models": line_of(SCRIPT, "energy_model = EnergyModel("),
        "around-ddp": line_of(SCRIPT, "predicted = head.module"),
        "no-energy-model": line_of(SCRIPT, "_, metrics = run_forward_pass"),
        "unpacking": line_of(SCRIPT, "_, metrics = run_forward_pass"),
        "resume": line_of(SCRIPT, "energy_model = EnergyModel("),
        "unpacked-tensor": line_of(MODULE, "E_pos, _ = energy_model"),
        "unused-layer-actions": line_of(SCRIPT, "layer_actions.append"),
        "accumulation": line_of(SCRIPT, "grad_accumulation_steps: int"),
    }
    paths = {finding["name"]: Path(finding["path"]).name for finding in answer["findings"]}
    assert paths.pop("unpacked-tensor") == "energy_model.py"
    assert set(paths.values()) == {"finetune.py"}
    separate = next(item for item in answer["findings"] if item["name"] == "separate-models")
    assert [place["line"] for place in separate["places"]] == [
        line_of(SCRIPT, "energy_optimizer.step()"),
        line_of(SCRIPT, "torch.save(energy_model.state_dict()"),
    ]
    assert "rank 0 alone" in separate["places"][1]["what"]


def test_numbers(energy_patch: Command, folder: Path) -> None:
    answer = diagnosed(energy_patch, folder, SCRIPT)
    rows = {row["name"]: (row["negatives"], row["evaluations"], row["gathered_bytes"]) for row in answer["numbers"]}
    assert (answer["gpus"], answer["batch_size"], answer["action_bytes"]) == (8, 3, 8 * 7 * 4)
    assert rows["now"] == (2, 9, 0)
    assert rows["one GPU"] == (23, 576, 0)
    assert rows["global"] == (23, 72, 21 * 8 * 7 * 4)
    assert answer["recommendation"]["strategy"] == "global"
    assert answer["recommendation"]["blocked"] == ""
    larger = diagnosed(energy_patch, folder, SCRIPT, "--gpus", 2, "--batch-size", 12)
    assert larger["numbers"][0]["negatives"] == 11
    assert larger["numbers"][1]["negatives"] == 23


def test_text_reads_well(energy_patch: Command, folder: Path) -> None:
    script = folder / "finetune.py"
    script.write_text(SCRIPT, "utf-8")
    ran = energy_patch("diagnose", script)
    assert ran.stderr == ""
    text = ran.stdout.decode()
    assert "9 findings" in text
    assert f"energy-patch apply --strategy global {script}" in text
    lines = text.splitlines()
    assert max(len(line) for line in lines if str(folder) not in line) <= 100
    assert lines.index(next(line for line in lines if line.startswith("  layer "))) < lines.index(
        next(line for line in lines if line.startswith("  local-batch "))
    )


SOUND = (
    "    energy_model = EnergyModel(32, 7).to(device)\n => "
    "    energy_model = EnergyModel(32, 7).to(device)\n"
    '    if cfg.resume:\n        energy_model.load_state_dict(load_checkpoint("energy_model", cfg.resume_step))\n'
    "    energy_model = DDP(energy_model)\n",
    "    layer_actions = []\n    with torch.no_grad():\n        for states in output.hidden_states:\n"
    "            layer_actions.append(head.module.predict_action(states).detach())\n => ",
    "head.module.predict_action(output => head(output",
    "_, metrics = run_forward_pass(vla, head, batch, use_l1=cfg.use_l1) => "
    "_, metrics, _ = run_forward_pass(vla, head, batch, use_l1=cfg.use_l1, energy_model=energy_model)",
    "run_validation(vla, head, => run_validation(vla, head, energy_model,",
    "run_validation(vla, head, loader, cfg) => run_validation(vla, head, energy_model, loader, cfg)",
    "    grad_accumulation_steps: int = 4\n => ",
    "cfg.grad_accumulation_steps => 1",
)


def test_a_sound_script(energy_patch: Command, folder: Path) -> None:
    sound = edited(SCRIPT, *(edit for edit in SOUND if not edit.startswith("run_validation(vla, head, loader")))
    (folder / "energy" / "energy_model.py").write_text(edited(MODULE, "E_pos, _ = => E_pos ="), "utf-8")
    sound = sound.replace("def run_validation(vla, head, energy_model,", "def run_validation(vla, head, energy_model,")
    answer = diagnosed(energy_patch, folder, sound)
    assert names(answer) == {"few-negatives"}  # it still calls the local loss, which is what the tool is for
    assert answer["doubts"] == []
    assert answer["sharing"]["state"] == "shared"


# Each edit makes a script in which one finding would be wrong, or could not be proven.
SILENCED: dict[str, list[str]] = {
    "few-negatives": [
        'actions = batch["actions"].to(torch.bfloat16) => actions = gather(batch["actions"])',
        'actions = batch["actions"].to(torch.bfloat16) => actions = torch.cat([batch["actions"], batch["more"]])',
        "hidden, actions, => hidden, everything(actions),",
        "    output = vla(batch)\n =>     output = vla(batch)\n    actions, _ = exchange(actions)\n",
        "import EnergyModel, energy_inbatch_swap_infonce => import EnergyModel\n"
        "def energy_inbatch_swap_infonce(energy_model, h, a_pos, pad_mask=None):\n    return dist.all_gather(a_pos)\n",
    ],
    "separate-models": [
        ".to(device)\n => .to(device)\n    energy_model = DDP(energy_model)\n",
        "energy_model = EnergyModel(32, 7).to(device) => energy_model = wrap_ddp(EnergyModel(32, 7).to(device))",
        "energy_model = EnergyModel(32, 7).to(device) => energy_model = init_module(EnergyModel, 'energy_model', cfg)",
        "energy_model = EnergyModel(32, 7).to(device) => energy_model = torch.nn.parallel.DistributedDataParallel("
        "EnergyModel(32, 7).to(device))",
        "energy_model = EnergyModel(32, 7).to(device) => energy_model = build_energy_model(32, 7)",
        "            energy_optimizer.step()\n =>             for p in energy_model.parameters():\n"
        "                dist.all_reduce(p.grad)\n            energy_optimizer.step()\n",
        "            energy_optimizer.step()\n =>             for p in energy_params:\n"
        "                if p.grad is not None:\n                    dist.all_reduce(p.grad.data)\n"
        "            energy_optimizer.step()\n",
        "            energy_optimizer.step()\n =>             grads = [p.grad for p in energy_model.parameters()]\n"
        "            flat = torch.cat([g.flatten() for g in grads])\n            dist.all_reduce(flat)\n"
        "            energy_optimizer.step()\n",
        "            energy_optimizer.step()\n =>             for g in energy_optimizer.param_groups:\n"
        "                for p in g['params']:\n                    dist.all_reduce(p.grad)\n"
        "            energy_optimizer.step()\n",
        "            energy_optimizer.step()\n =>             average_gradients(energy_model)\n"
        "            energy_optimizer.step()\n",
        "            energy_optimizer.step()\n => "
        "            mystery(energy_model)\n            energy_optimizer.step()\n",
        "            energy_optimizer.step()\n =>             sync_gradients()\n            energy_optimizer.step()\n",
        "            energy_optimizer.step()\n =>             xm.reduce_gradients(energy_optimizer)\n"
        "            energy_optimizer.step()\n",
        "import held_out_top1, is_main_process => import held_out_top1, is_main_process, synchronise",
        "energy_optimizer = AdamW(energy_params, lr=cfg.lr)\n => energy_optimizer = AdamW(energy_params, lr=cfg.lr)\n"
        "    energy_optimizer = hvd.DistributedOptimizer(energy_optimizer)\n",
        "energy_optimizer = AdamW(energy_params, lr=cfg.lr)\n => energy_optimizer = AdamW(energy_params, lr=cfg.lr)\n"
        "    energy_model, energy_optimizer = accelerator.prepare(energy_model, energy_optimizer)\n",
        "energy_optimizer = AdamW(energy_params, lr=cfg.lr)\n => energy_optimizer = AdamW(energy_params, lr=cfg.lr)\n"
        "    for p in energy_model.parameters():\n        p.register_hook(lambda g: g)\n",
        "energy_optimizer = AdamW(energy_params, lr=cfg.lr)\n => energy_optimizer = AdamW(energy_params, lr=cfg.lr)\n"
        "    both = Both(vla, energy_model)\n    both = DDP(both)\n",
        "energy_optimizer = AdamW(energy_params, lr=cfg.lr)\n => energy_optimizer = AdamW(energy_params, lr=cfg.lr)\n"
        "    vla.energy_model = energy_model\n",
        "energy_optimizer = AdamW(energy_params, lr=cfg.lr)\n => energy_optimizer = AdamW(energy_params, lr=cfg.lr)\n"
        "    modules = [vla, energy_model]\n    sync_all(modules)\n",
        "energy_optimizer = AdamW(energy_params, lr=cfg.lr)\n => energy_optimizer = AdamW(energy_params, lr=cfg.lr)\n"
        "    modules = {'energy': energy_model}\n    for m in modules.values():\n        sync_one(m)\n",
        "            energy_optimizer.step()\n => ",
    ],
    "around-ddp": [
        "predicted = head.module.predict_action( => predicted = head(",
        "    vla = wrap_ddp(load_policy())\n =>     vla = wrap_ddp(load_policy())\n    head = Head()\n",
        '    head = init_module(Head, "head", cfg)\n =>     head = load_policy()\n',
        "return wrap_ddp(module) => return wrap(module)",
        "return wrap_ddp(module) => return wrap_ddp(module) if cfg.lr else module",
        "    output = vla(batch)\n =>     output = vla(batch)\n    head(output)\n",
        "output = vla(batch) => output = vla(batch, head)",
        "        (loss / cfg.grad_accumulation_steps).backward()\n => ",
        "        predicted = head.module =>         with torch.no_grad():\n            predicted = head.module",
        "loss = torch.nn.L1Loss()(predicted, actions) => loss = torch.nn.L1Loss()(predicted.detach(), actions)",
        " + [p for p in head.parameters()] => ",
        "            optimizer.step()\n            energy_optimizer.step()\n => "
        "            for p in params:\n                dist.all_reduce(p.grad)\n"
        "            optimizer.step()\n            energy_optimizer.step()\n",
        "            optimizer.step()\n            energy_optimizer.step()\n => "
        "            sync(head.module)\n            optimizer.step()\n            energy_optimizer.step()\n",
        "from torch.nn.parallel import DistributedDataParallel as DDP\n => class DDP:\n    pass\n\n",
    ],
    "no-energy-model": [
        "batch, use_l1=cfg.use_l1)\n => batch, use_l1=cfg.use_l1, energy_model=model)\n",
        "batch, use_l1=cfg.use_l1)\n => batch, cfg.use_l1, model)\n",
        "batch, use_l1=cfg.use_l1)\n => batch, use_l1=False)\n",
        "batch, use_l1=cfg.use_l1)\n => batch, use_l1=not cfg.use_l1)\n",
        "batch, use_l1=cfg.use_l1)\n => batch, **rest)\n",
        "    if use_l1:\n =>     if use_l1 and energy_model is not None:\n",
        "    if use_l1:\n =>     if vla.training:\n",
        "    if use_l1:\n =>     if torch.is_grad_enabled():\n",
        "    output = vla(batch)\n =>     output = vla(batch)\n    energy_model = energy_model or make()\n",
        "    output = vla(batch)\n =>     output = vla(batch)\n    if energy_model is None:\n        return 1, 2, 3\n",
        "    output = vla(batch)\n =>     output = vla(batch)\n    if not vla.training:\n        return 1, 2, 3\n",
        "            _, metrics = run_forward_pass(vla, head, batch, use_l1=cfg.use_l1)\n => "
        "            try:\n                _, metrics = run_forward_pass(vla, head, batch, use_l1=cfg.use_l1)\n"
        "            except Exception:\n                pass\n",
        "energy_model=None): => energy_model=DEFAULT):",
    ],
    "unpacking": [
        "_, metrics = run => _, metrics, _ = run",
        "_, metrics = run => _, *metrics = run",
        "_, metrics = run => metrics = run",
        '    return loss, {"loss": loss.item()}, energy_loss\n =>     return result\n',
        "    output = vla(batch)\n =>     output = vla(batch)\n    if not vla.training:\n        return 0, {}\n",
        "def run_forward_pass( => @first_two_in_validation\ndef run_forward_pass(",
        '    return loss, {"loss": loss.item()}, energy_loss\n =>     return (loss, {}, *extra)\n',
        "batch, use_l1=cfg.use_l1)\n => batch, use_l1=cfg.use_l1)[:2]\n",
    ],
    "resume": [
        ".to(device)\n => "
        ".to(device)\n    if cfg.resume:\n        energy_model.load_state_dict(load_checkpoint('e', 1))\n",
        ".to(device)\n => .to(device)\n    if cfg.resume:\n        load_into(energy_model, cfg)\n",
        "    save(cfg, vla, head, energy_model, step)\n =>     save(cfg, vla, head, energy_model, step)\n"
        "            restore(energy_model, 'x')\n",
        ".to(device)\n => "
        ".to(device)\n    for m in (head, energy_model):\n        m.load_state_dict(load_checkpoint('e', 1))\n",
        "EnergyModel(32, 7).to(device) => EnergyModel(32, 7, checkpoint=cfg.resume_step).to(device)",
        "energy_model = EnergyModel(32, 7).to(device) => energy_model = init_module(EnergyModel, 'x', cfg)",
        "EnergyModel(32, 7).to(device) => EnergyModel.from_pretrained(cfg.resume_step)",
        ".to(device)\n => .to(device)\n    accelerator.load_state('x')\n",
        '            torch.save(energy_model.state_dict(), f"energy_model--{step}.pt")\n =>             pass\n',
        "    if cfg.resume:\n        module.load_state_dict(load_checkpoint(name, cfg.resume_step))\n => ",
        "    resume: bool = False\n    resume_step: int = 0\n => ",
        "load_state_dict(load_checkpoint(name => load_state_dict(load_checkpoint('energy' or name",
    ],
    "unused-layer-actions": [
        "    if use_l1:\n =>     negatives = layer_actions[1]\n    if use_l1:\n",
        '{"loss": loss.item()} => {"layers": layer_actions}',
        "    layer_actions = []\n =>     layer_actions = batch['list']\n",
        "    layer_actions = []\n =>     layer_actions = found = []\n",
        "    if use_l1:\n =>     hook = lambda: layer_actions\n    if use_l1:\n",
        "    layer_actions = []\n =>     global layer_actions\n    layer_actions = []\n",
    ],
    "accumulation": [
        "    grad_accumulation_steps: int = 4\n => ",
        'actions = batch["actions"].to(torch.bfloat16) => actions = torch.cat(kept + [batch["actions"]])',
    ],
}


@pytest.mark.parametrize(
    ("name", "edit"), [(name, edit) for name, edits in SILENCED.items() for edit in edits], ids=lambda text: text[:60]
)
def test_silence(energy_patch: Command, folder: Path, name: str, edit: str) -> None:
    if "synchronise" in edit:
        edit_lines = (
            edit,
            "            energy_optimizer.step()\n =>             synchronise(energy_model)\n"
            "            energy_optimizer.step()\n",
        )
    else:
        edit_lines = (edit,)
    text = edited(SCRIPT, *edit_lines)
    if "head = Head()" in edit:
        text = text.replace('    head = init_module(Head, "head", cfg)\n', "")
    answer = diagnosed(energy_patch, folder, text)
    assert name not in names(answer), [item for item in answer["findings"] if item["name"] == name]


# Edits that change nothing about a finding: it must not be lost either.
KEPT: dict[str, list[str]] = {
    "separate-models": [
        ".to(device)\n => .to(device)\n    torch.manual_seed(3)\n",
        ".to(device)\n => .to(device)\n    energy_model = torch.compile(energy_model)\n",
        ".to(device)\n => .to(device)\n    energy_model.train()\n    ema = copy.deepcopy(energy_model)\n",
        ".to(device)\n => .to(device)\n    freeze(energy_model)\n",
        "print(held_out_top1(vla, energy_model)) => print(anything(vla, energy_model))",
        "energy_model.state_dict(), f => getattr(energy_model, 'module', energy_model).state_dict(), f",
        "energy_optimizer.step()\n => "
        "energy_optimizer.step()\n            print(sum(p.grad.norm() for p in energy_params))\n",
    ],
    "around-ddp": [
        "(loss / cfg.grad_accumulation_steps).backward() => scaled = loss / 2\n        scaled.backward()",
        "return wrap_ddp(module) => module = wrap_ddp(module)\n    return module",
        "    return wrap_ddp(module)\n\n\n =>     return DDP(module) if dist.is_initialized() else Alone(module)\n\n\n",
        '    head = init_module(Head, "head", cfg)\n => '
        "    head = Head()\n    head, other = wrap_ddp(head), wrap_ddp(vla)\n",
        "[p for p in vla.parameters() if p.requires_grad] + [p for p in head.parameters()] => "
        "[p for m in (vla, head) for p in m.parameters()]",
    ],
    "no-energy-model": [
        "batch, use_l1=cfg.use_l1)\n => batch, use_l1=cfg.use_l1, energy_model=None)\n",
        "    if use_l1:\n =>     if use_l1 and not False:\n",
        "batch, use_l1, energy_model=None): => batch, use_l1, energy_model):",
    ],
    "unpacking": ["_, metrics = run => (_, metrics) = run", "_, metrics = run => a, b, c, d = run"],
    "resume": ["if cfg.resume:\n        module => if cfg.resume and name:\n        module"],
}


@pytest.mark.parametrize(
    ("name", "edit"), [(name, edit) for name, edits in KEPT.items() for edit in edits], ids=lambda text: text[:60]
)
def test_still_found(energy_patch: Command, folder: Path, name: str, edit: str) -> None:
    text = edited(SCRIPT, edit)
    if "freeze(" in edit:
        text = edited(text, "is_main_process\n\n => freeze, is_main_process\n\n")
    if name == "no-energy-model" and "energy_model):" in edit:
        text = edited(
            text, "def run_forward_pass(vla, head, batch, use_l1, => def run_forward_pass(vla, head, batch, use_l1,"
        )
    assert name in names(diagnosed(energy_patch, folder, text))


@pytest.mark.parametrize(
    "edit",
    [
        "E_pos, _ = => E_pos =",
        "return energy\n\n\ndef energy_infonce => return energy, h\n\n\ndef energy_infonce",
        "return energy\n\n\ndef energy_infonce => energy = energy, h\n        return energy\n\n\ndef energy_infonce",
        "    E_pos, _ = energy_model(h, a_pos) => "
        "    energy_model = both(energy_model)\n    E_pos, _ = energy_model(h, a_pos)",
        "E_pos, _ = energy_model(h => E_pos, *_ = energy_model(h",
    ],
)
def test_module_that_is_right(energy_patch: Command, folder: Path, edit: str) -> None:
    (folder / "energy" / "energy_model.py").write_text(edited(MODULE, edit), "utf-8")
    assert "unpacked-tensor" not in names(diagnosed(energy_patch, folder, SCRIPT))


def test_without_the_module(energy_patch: Command, folder: Path) -> None:
    (folder / "energy" / "energy_model.py").unlink()
    assert names(diagnosed(energy_patch, folder, SCRIPT)) == ALL - {"unpacked-tensor"}


def test_module_that_cannot_be_parsed(energy_patch: Command, folder: Path) -> None:
    (folder / "energy" / "energy_model.py").write_bytes(b"def broken(:\n\xff\x00")
    assert names(diagnosed(energy_patch, folder, SCRIPT)) == ALL - {"unpacked-tensor"}


def test_one_gpu(energy_patch: Command, folder: Path) -> None:
    answer = diagnosed(energy_patch, folder, SCRIPT, "--gpus", 1)
    assert not names(answer) & {"few-negatives", "separate-models", "around-ddp"}
    assert answer["recommendation"]["strategy"] != "global"


def test_script_without_ranks(energy_patch: Command, folder: Path) -> None:
    text = (
        "from energy.energy_model import EnergyModel, energy_inbatch_swap_infonce\n"
        "energy_model = EnergyModel(4, 7)\noptimizer = AdamW(energy_model.parameters())\n"
        "for h, a in loader:\n    loss, _, _ = energy_inbatch_swap_infonce(energy_model, h, a)\n"
        "    loss.backward()\n    optimizer.step()\n"
    )
    assert not names(diagnosed(energy_patch, folder, text)) & {"few-negatives", "separate-models"}
    with_ranks = names(diagnosed(energy_patch, folder, f"import torch.distributed as dist\n{text}"))
    assert "separate-models" in with_ranks


def test_script_without_the_loss(energy_patch: Command, folder: Path) -> None:
    text = edited(SCRIPT, "energy_inbatch_swap_infonce(energy_model => energy_infonce_loss(energy_model")
    answer = diagnosed(energy_patch, folder, text)
    assert answer["numbers"] == []
    assert answer["recommendation"]["command"] is None
    assert "is not called" in answer["notes"][0]
    assert names(answer) <= {"around-ddp", "unused-layer-actions"}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"def broken(:\n", "is not valid Python"),
        (b"\x00\x01", "NUL bytes"),
        (b"\xff\xfe\xfd", "encoding"),
        (None, "no such"),
    ],
)
def test_unreadable(energy_patch: Command, tmp_path: Path, content: bytes | None, said: str) -> None:
    script = tmp_path / "finetune.py"
    if content is not None:
        script.write_bytes(content)
    ran = energy_patch("diagnose", script)
    assert ran.exit_code == 0
    assert len(ran.stdout.splitlines()) == 1
    assert said in ran.stdout.decode()
    assert energy_patch("diagnose", "--json", script).json["outcome"] == "refused"


def test_usage(energy_patch: Command, tmp_path: Path) -> None:
    for option in ("--gpus", "--batch-size"):
        assert energy_patch("diagnose", option, 0, tmp_path / "x.py").exit_code == 2


# Patched scripts


def test_patched(energy_patch: Command, folder: Path) -> None:
    script = folder / "finetune.py"
    script.write_text(SCRIPT, "utf-8")
    assert energy_patch("apply", script).exit_code == 0
    ran = energy_patch("diagnose", "--json", script)
    answer = ran.json
    text = script.read_text("utf-8")
    assert answer["patched"] == "strategy global"
    assert names(answer) == ALL - {"few-negatives", "separate-models", "accumulation"}
    lines = {finding["name"]: finding["line"] for finding in answer["findings"]}
    assert lines["unpacking"] == line_of(text, "_, metrics = run_forward_pass")
    assert lines["resume"] == line_of(text, "energy_model = EnergyModel(")
    assert answer["recommendation"]["command"] is None
    titles = " ".join(item["what"] for item in answer["in_place"])
    assert "kept equal" in titles


def test_patched_and_edited(energy_patch: Command, folder: Path) -> None:
    script = folder / "finetune.py"
    script.write_text(SCRIPT, "utf-8")
    assert energy_patch("apply", "--tau", "0.5", script).exit_code == 0
    text = script.read_text("utf-8").replace("import os\n", "# one\n# two\nimport os\n")
    script.write_text(text, "utf-8")
    answer = energy_patch("diagnose", "--json", script).json
    assert answer["patched"].startswith("strategy global")
    lines = {finding["name"]: finding["line"] for finding in answer["findings"]}
    assert lines["unpacking"] == line_of(text, "_, metrics = run_forward_pass")
    placed = {item["what"]: item["line"] for item in answer["in_place"]}
    average = next(line for what, line in placed.items() if "kept equal" in what)
    assert abs(average - line_of(text, "    replicate(energy_model)")) <= 1
    assert "intact" in answer["notes"][0]


def test_patched_without_synchronisation(energy_patch: Command, folder: Path) -> None:
    script = folder / "finetune.py"
    script.write_text(SCRIPT, "utf-8")
    assert energy_patch("apply", "--no-sync", script).exit_code == 0
    answer = energy_patch("diagnose", "--json", script).json
    assert "separate-models" in names(answer)
    assert answer["recommendation"]["command"].startswith("energy-patch apply --strategy global")


def test_drifted(energy_patch: Command, folder: Path) -> None:
    script = folder / "finetune.py"
    script.write_text(SCRIPT, "utf-8")
    assert energy_patch("apply", script).exit_code == 0
    text = script.read_text("utf-8").replace("replicate(energy_model)", "replicate(vla)")
    script.write_text(text, "utf-8")
    ran = energy_patch("diagnose", "--json", script)
    assert ran.exit_code == 0
    assert "not intact" in ran.json["notes"][0]


def test_refused_recommendation_says_so(energy_patch: Command, folder: Path) -> None:
    text = edited(SCRIPT, "energy_model = EnergyModel(32, 7).to(device) => energy_model = FSDP(EnergyModel(32, 7))")
    answer = diagnosed(energy_patch, folder, text)
    assert "separate-models" not in names(answer)

"""One long script: every finding where it is right; silence, and nothing else, after an edit that makes it wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Command
from tests.diagnose.scripts import ALL, MODULE, SCRIPT, changed, diagnosed, line_of, lines, names


class Row:
    """Edits of the script, and the other findings that go with them, for a reason that is theirs."""

    def __init__(self, *edits: str, also: tuple[str, ...] = ()) -> None:
        self.edits = edits
        self.also = frozenset(also)


SILENCED: dict[str, list[Row]] = {
    "local-negatives": [
        Row(
            'actions = batch["actions"].to(torch.bfloat16) => actions = gather(batch["actions"])',
            also=("accumulation",),
        ),
        Row(
            'actions = batch["actions"].to(torch.bfloat16) => actions = torch.cat([batch["actions"], batch["more"]])',
            also=("accumulation",),
        ),
        Row("hidden, actions, => hidden, everything(actions),", also=("accumulation",)),
        Row(
            "    output = vla(batch)\n =>     output = vla(batch)\n    actions, _ = exchange(actions)\n",
            also=("accumulation",),
        ),
        Row(
            "import EnergyModel, energy_inbatch_swap_infonce => import EnergyModel\n"
            "def energy_inbatch_swap_infonce(energy_model, h, a_pos, pad_mask=None):\n"
            "    return dist.all_gather(a_pos)\n",
            also=("accumulation",),
        ),
    ],
    "separate-models": [
        Row(".to(device)\n => .to(device)\n    energy_model = DDP(energy_model)\n"),
        Row(
            "energy_model = EnergyModel(32, 7).to(device) => energy_model = wrap_ddp(EnergyModel(32, 7).to(device))",
            also=("unpacked-tensor",),
        ),
        Row(
            "energy_model = EnergyModel(32, 7).to(device) => "
            "energy_model = init_module(EnergyModel, 'energy_model', cfg)",
            also=("resume", "unpacked-tensor"),
        ),
        Row(
            "energy_model = EnergyModel(32, 7).to(device) => "
            "energy_model = torch.nn.parallel.DistributedDataParallel(EnergyModel(32, 7).to(device))"
        ),
        Row(
            "energy_model = EnergyModel(32, 7).to(device) => energy_model = build_energy_model(32, 7)",
            also=("unpacked-tensor",),
        ),
        Row(
            "            energy_optimizer.step()\n =>             for p in energy_model.parameters():\n"
            "                dist.all_reduce(p.grad)\n            energy_optimizer.step()\n"
        ),
        Row(
            "            energy_optimizer.step()\n =>             for p in energy_params:\n"
            "                if p.grad is not None:\n                    dist.all_reduce(p.grad.data)\n"
            "            energy_optimizer.step()\n"
        ),
        Row(
            "            energy_optimizer.step()\n => "
            "            grads = [p.grad for p in energy_model.parameters()]\n"
            "            flat = torch.cat([g.flatten() for g in grads])\n"
            "            dist.all_reduce(flat)\n            energy_optimizer.step()\n"
        ),
        Row(
            "            energy_optimizer.step()\n => "
            "            for g in energy_optimizer.param_groups:\n                for p in g['params']:\n"
            "                    dist.all_reduce(p.grad)\n            energy_optimizer.step()\n"
        ),
        Row(
            "            energy_optimizer.step()\n =>             average_gradients(energy_model)\n"
            "            energy_optimizer.step()\n"
        ),
        Row(
            "            energy_optimizer.step()\n =>             mystery(energy_model)\n"
            "            energy_optimizer.step()\n",
            also=("resume",),
        ),
        Row(
            "            energy_optimizer.step()\n =>             sync_gradients()\n"
            "            energy_optimizer.step()\n",
            also=("bypasses-ddp",),
        ),
        Row(
            "            energy_optimizer.step()\n =>             xm.reduce_gradients(energy_optimizer)\n"
            "            energy_optimizer.step()\n"
        ),
        Row(
            "import held_out_top1, is_main_process => import held_out_top1, is_main_process, synchronize",
            "            energy_optimizer.step()\n =>             synchronize(energy_model)\n"
            "            energy_optimizer.step()\n",
        ),
        Row(
            "energy_optimizer = AdamW(energy_params, lr=cfg.lr)\n => "
            "energy_optimizer = AdamW(energy_params, lr=cfg.lr)\n"
            "    energy_optimizer = hvd.DistributedOptimizer(energy_optimizer)\n"
        ),
        Row(
            "energy_optimizer = AdamW(energy_params, lr=cfg.lr)\n => "
            "energy_optimizer = AdamW(energy_params, lr=cfg.lr)\n"
            "    energy_model, energy_optimizer = accelerator.prepare(energy_model, energy_optimizer)\n"
        ),
        Row(
            "energy_optimizer = AdamW(energy_params, lr=cfg.lr)\n => "
            "energy_optimizer = AdamW(energy_params, lr=cfg.lr)\n    for p in energy_model.parameters():\n"
            "        p.register_hook(lambda g: g)\n",
            also=("resume",),
        ),
        Row(
            "energy_optimizer = AdamW(energy_params, lr=cfg.lr)\n => "
            "energy_optimizer = AdamW(energy_params, lr=cfg.lr)\n    both = Both(vla, energy_model)\n"
            "    both = DDP(both)\n",
            also=("resume",),
        ),
        Row(
            "energy_optimizer = AdamW(energy_params, lr=cfg.lr)\n => "
            "energy_optimizer = AdamW(energy_params, lr=cfg.lr)\n    vla.energy_model = energy_model\n",
            also=("resume",),
        ),
        Row(
            "energy_optimizer = AdamW(energy_params, lr=cfg.lr)\n => "
            "energy_optimizer = AdamW(energy_params, lr=cfg.lr)\n    modules = [vla, energy_model]\n"
            "    sync_all(modules)\n"
        ),
        Row(
            "energy_optimizer = AdamW(energy_params, lr=cfg.lr)\n => "
            "energy_optimizer = AdamW(energy_params, lr=cfg.lr)\n    modules = {'energy': energy_model}\n"
            "    for m in modules.values():\n        sync_one(m)\n"
        ),
        Row("            energy_optimizer.step()\n => "),
    ],
    "bypasses-ddp": [
        Row("predicted = head.module.predict_action( => predicted = head("),
        Row(
            "    vla = wrap_ddp(load_policy())\n =>     vla = wrap_ddp(load_policy())\n    head = Head()\n",
            '    head = init_module(Head, "head", cfg)\n => ',
        ),
        Row('    head = init_module(Head, "head", cfg)\n =>     head = load_policy()\n'),
        Row("return wrap_ddp(module) => return wrap(module)"),
        Row("    output = vla(batch)\n =>     output = vla(batch)\n    head(output)\n"),
        Row("output = vla(batch) => output = vla(batch, head)"),
        Row("        (loss / cfg.grad_accumulation_steps).backward()\n => "),
        Row("        predicted = head.module =>         with torch.no_grad():\n            predicted = head.module"),
        Row("loss = torch.nn.L1Loss()(predicted, actions) => loss = torch.nn.L1Loss()(predicted.detach(), actions)"),
        Row(" + [p for p in head.parameters()] => "),
        Row(
            "            optimizer.step()\n            energy_optimizer.step()\n => "
            "            for p in params:\n                dist.all_reduce(p.grad)\n"
            "            optimizer.step()\n            energy_optimizer.step()\n"
        ),
        Row(
            "            optimizer.step()\n            energy_optimizer.step()\n => "
            "            sync(head.module)\n            optimizer.step()\n"
            "            energy_optimizer.step()\n"
        ),
        Row("from torch.nn.parallel import DistributedDataParallel as DDP\n => class DDP:\n    pass\n\n"),
    ],
    "no-energy-model": [
        Row("batch, use_l1=cfg.use_l1)\n => batch, use_l1=cfg.use_l1, energy_model=model)\n"),
        Row("batch, use_l1=cfg.use_l1)\n => batch, cfg.use_l1, model)\n"),
        Row("batch, use_l1=cfg.use_l1)\n => batch, use_l1=False)\n"),
        Row("batch, use_l1=cfg.use_l1)\n => batch, use_l1=not cfg.use_l1)\n"),
        Row("batch, use_l1=cfg.use_l1)\n => batch, **rest)\n"),
        Row("    if use_l1:\n =>     if use_l1 and energy_model is not None:\n"),
        Row("    if use_l1:\n =>     if vla.training:\n"),
        Row("    if use_l1:\n =>     if torch.is_grad_enabled():\n"),
        Row(
            "    output = vla(batch)\n =>     output = vla(batch)\n    energy_model = energy_model or make()\n",
            also=("separate-models",),
        ),
        Row(
            "    output = vla(batch)\n =>     output = vla(batch)\n    if energy_model is None:\n"
            "        return 1, 2, 3\n"
        ),
        Row("    output = vla(batch)\n =>     output = vla(batch)\n    if not vla.training:\n        return 1, 2, 3\n"),
        Row(
            "            _, metrics = run_forward_pass(vla, head, batch, use_l1=cfg.use_l1)\n => "
            "            try:\n"
            "                _, metrics = run_forward_pass(vla, head, batch, use_l1=cfg.use_l1)\n"
            "            except Exception:\n                pass\n",
            also=("unpacking",),
        ),
        Row("energy_model=None): => energy_model=DEFAULT):"),
    ],
    "unpacking": [
        Row("_, metrics = run => _, metrics, _ = run"),
        Row("_, metrics = run => _, *metrics = run"),
        Row("_, metrics = run => metrics = run"),
        Row('    return loss, {"loss": loss.item()}, energy_loss\n =>     return result\n', also=("bypasses-ddp",)),
        Row(
            "    output = vla(batch)\n =>     output = vla(batch)\n    if not vla.training:\n        return 0, {}\n",
            also=("no-energy-model",),
        ),
        Row("def run_forward_pass( => @first_two_in_validation\ndef run_forward_pass(", also=("no-energy-model",)),
        Row(
            '    return loss, {"loss": loss.item()}, energy_loss\n =>     return (loss, {}, *extra)\n',
            also=("bypasses-ddp",),
        ),
        Row("batch, use_l1=cfg.use_l1)\n => batch, use_l1=cfg.use_l1)[:2]\n"),
    ],
    "resume": [
        Row(
            ".to(device)\n => .to(device)\n    if cfg.resume:\n"
            "        energy_model.load_state_dict(load_checkpoint('e', 1))\n"
        ),
        Row(".to(device)\n => .to(device)\n    if cfg.resume:\n        load_into(energy_model, cfg)\n"),
        Row(
            "    save(cfg, vla, head, energy_model, step)\n => "
            "    save(cfg, vla, head, energy_model, step)\n            restore(energy_model, 'x')\n"
        ),
        Row(
            ".to(device)\n => .to(device)\n    for m in (head, energy_model):\n"
            "        m.load_state_dict(load_checkpoint('e', 1))\n"
        ),
        Row("EnergyModel(32, 7).to(device) => EnergyModel(32, 7, checkpoint=cfg.resume_step).to(device)"),
        Row(
            "energy_model = EnergyModel(32, 7).to(device) => energy_model = init_module(EnergyModel, 'x', cfg)",
            also=("separate-models", "unpacked-tensor"),
        ),
        Row(
            "EnergyModel(32, 7).to(device) => EnergyModel.from_pretrained(cfg.resume_step)",
            also=("separate-models", "unpacked-tensor"),
        ),
        Row(".to(device)\n => .to(device)\n    accelerator.load_state('x')\n"),
        Row('            torch.save(energy_model.state_dict(), f"energy_model--{step}.pt")\n =>             pass\n'),
        Row("    if cfg.resume:\n        module.load_state_dict(load_checkpoint(name, cfg.resume_step))\n => "),
        Row("    resume: bool = False\n    resume_step: int = 0\n => "),
        Row("load_state_dict(load_checkpoint(name => load_state_dict(load_checkpoint('energy' or name"),
    ],
    "unused-layer-actions": [
        Row("    if use_l1:\n =>     negatives = layer_actions[1]\n    if use_l1:\n"),
        Row('{"loss": loss.item()} => {"layers": layer_actions}'),
        Row("    layer_actions = []\n =>     layer_actions = batch['list']\n"),
        Row("    layer_actions = []\n =>     layer_actions = found = []\n"),
        Row("    if use_l1:\n =>     hook = lambda: layer_actions\n    if use_l1:\n"),
        Row("    layer_actions = []\n =>     global layer_actions\n    layer_actions = []\n"),
    ],
    "accumulation": [
        Row("    grad_accumulation_steps: int = 4\n => "),
        Row(
            'actions = batch["actions"].to(torch.bfloat16) => actions = torch.cat(kept + [batch["actions"]])',
            also=("local-negatives",),
        ),
    ],
}


# Edits that change nothing about a finding: it must not be lost either.
KEPT: dict[str, list[Row]] = {
    "separate-models": [
        Row(".to(device)\n => .to(device)\n    torch.manual_seed(3)\n"),
        Row(".to(device)\n => .to(device)\n    energy_model = torch.compile(energy_model)\n"),
        Row(".to(device)\n => .to(device)\n    energy_model.train()\n    ema = copy.deepcopy(energy_model)\n"),
        Row(
            ".to(device)\n => .to(device)\n    freeze(energy_model)\n",
            "is_main_process\n\n => freeze, is_main_process\n\n",
        ),
        Row("print(held_out_top1(vla, energy_model)) => print(anything(vla, energy_model))", also=("resume",)),
        Row("energy_model.state_dict(), f => getattr(energy_model, 'module', energy_model).state_dict(), f"),
        Row(
            "energy_optimizer.step()\n => energy_optimizer.step()\n"
            "            print(sum(p.grad.norm() for p in energy_params))\n"
        ),
    ],
    "bypasses-ddp": [
        Row("(loss / cfg.grad_accumulation_steps).backward() => scaled = loss / 2\n        scaled.backward()"),
        Row("return wrap_ddp(module) => module = wrap_ddp(module)\n    return module"),
        Row(
            "    return wrap_ddp(module)\n\n\n => "
            "    return DDP(module) if dist.is_initialized() else Alone(module)\n\n\n"
        ),
        Row(
            '    head = init_module(Head, "head", cfg)\n =>     head = Head()\n'
            "    head, other = wrap_ddp(head), wrap_ddp(vla)\n"
        ),
        Row(
            "[p for p in vla.parameters() if p.requires_grad] + [p for p in head.parameters()] => "
            "[p for m in (vla, head) for p in m.parameters()]"
        ),
        Row("return wrap_ddp(module) => return wrap_ddp(module) if cfg.lr else module"),
    ],
    "no-energy-model": [
        Row("batch, use_l1=cfg.use_l1)\n => batch, use_l1=cfg.use_l1, energy_model=None)\n"),
        Row("    if use_l1:\n =>     if use_l1 and not False:\n"),
        Row("batch, use_l1, energy_model=None): => batch, use_l1, energy_model):"),
    ],
    "unpacking": [
        Row("_, metrics = run => (_, metrics) = run"),
        Row("_, metrics = run => a, b, c, d = run"),
        Row(
            "            _, metrics = run_forward_pass(vla, head, batch, use_l1=cfg.use_l1)\n => "
            "            try:\n"
            "                _, metrics = run_forward_pass(vla, head, batch, use_l1=cfg.use_l1)\n"
            "            finally:\n                vla.train()\n",
        ),
    ],
    "resume": [
        Row("if cfg.resume:\n        module => if cfg.resume and name:\n        module"),
    ],
}


def rows(table: dict[str, list[Row]]) -> list[Any]:
    return [
        pytest.param(name, row, id=f"{name}: {row.edits[0][:60]}") for name, found in table.items() for row in found
    ]


@pytest.mark.parametrize(("name", "row"), rows(SILENCED))
def test_silence(energy_patch: Command, folder: Path, name: str, row: Row) -> None:
    """All other findings remain, so the script was understood and the silence is about this one."""
    answer = diagnosed(energy_patch, folder, changed(SCRIPT, *row.edits))
    assert names(answer) == ALL - {name} - row.also


@pytest.mark.parametrize(("name", "row"), rows(KEPT))
def test_still_found(energy_patch: Command, folder: Path, name: str, row: Row) -> None:
    assert name not in row.also
    assert names(diagnosed(energy_patch, folder, changed(SCRIPT, *row.edits))) == ALL - row.also


def test_everything_is_found_where_it_is(energy_patch: Command, folder: Path) -> None:
    answer = diagnosed(energy_patch, folder, SCRIPT)
    assert names(answer) == ALL
    assert len(answer["findings"]) == len(ALL)
    assert (answer["doubts"], answer["unfollowed"]) == ([], [])
    assert lines(answer) == {
        "local-negatives": line_of(SCRIPT, "energy_inbatch_swap_infonce(energy"),
        "separate-models": line_of(SCRIPT, "energy_model = EnergyModel("),
        "bypasses-ddp": line_of(SCRIPT, "predicted = head.module"),
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
    assert "only rank 0's" in separate["places"][1]["what"]


def test_the_weightiest_comes_first(energy_patch: Command, folder: Path) -> None:
    found = [finding["name"] for finding in diagnosed(energy_patch, folder, SCRIPT)["findings"]]
    assert found[:3] == ["local-negatives", "separate-models", "bypasses-ddp"]
    assert found[-1] == "accumulation"


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
    "    grad_accumulation_steps: int = 4\n => ",
    "cfg.grad_accumulation_steps => 1",
)


def test_a_sound_script(energy_patch: Command, folder: Path) -> None:
    (folder / "energy" / "energy_model.py").write_text(changed(MODULE, "E_pos, _ = => E_pos ="), "utf-8")
    answer = diagnosed(energy_patch, folder, changed(SCRIPT, *SOUND))
    assert names(answer) == {"local-negatives"}  # it still calls the local loss, which is what the tool is for
    assert answer["doubts"] == []
    assert answer["sharing"] == "shared"


def test_without_the_module(energy_patch: Command, folder: Path) -> None:
    (folder / "energy" / "energy_model.py").unlink()
    assert names(diagnosed(energy_patch, folder, SCRIPT)) == ALL - {"unpacked-tensor"}


def test_module_that_cannot_be_parsed(energy_patch: Command, folder: Path) -> None:
    (folder / "energy" / "energy_model.py").write_bytes(b"def broken(:\n\xff\x00")
    assert names(diagnosed(energy_patch, folder, SCRIPT)) == ALL - {"unpacked-tensor"}


def test_one_gpu(energy_patch: Command, folder: Path) -> None:
    answer = diagnosed(energy_patch, folder, SCRIPT, "--gpus", 1)
    assert names(answer) == ALL - {"local-negatives", "separate-models", "bypasses-ddp"}
    assert answer["recommendation"]["strategy"] not in (None, "global")


def test_script_without_ranks(energy_patch: Command, folder: Path) -> None:
    text = (
        "from energy.energy_model import EnergyModel, energy_inbatch_swap_infonce\n"
        "energy_model = EnergyModel(4, 7)\noptimizer = AdamW(energy_model.parameters())\n"
        "for h, a in loader:\n    loss, _, _ = energy_inbatch_swap_infonce(energy_model, h, a)\n"
        "    loss.backward()\n    optimizer.step()\n"
    )
    without = diagnosed(energy_patch, folder, text)
    assert names(without) == {"unpacked-tensor"}
    assert "no torch.distributed code found" in without["doubts"][0]["what"]
    with_ranks = names(diagnosed(energy_patch, folder, f"import torch.distributed as dist\n{text}"))
    assert with_ranks == {"local-negatives", "separate-models", "unpacked-tensor"}

"""What becomes of a module in a program."""

from __future__ import annotations

from pathlib import Path

import pytest

from energy_patch.analysis.aliases import Aliases
from energy_patch.analysis.calls import CallGraph
from energy_patch.analysis.follower import uses_of
from tests.analysis.programs import program


def uses_in(folder: Path, body: str, **files: str) -> dict[str, list[int]]:
    found = program(folder, f"from torch.optim import AdamW\nmodel = Model()\n{body}", **files)
    aliases = Aliases(CallGraph(found))
    target = next(node for node, _ in found.names if node.value == "model")
    ref = aliases.ref(target, found.scopes[target])
    assert ref is not None
    uses = uses_of(aliases, [ref])
    lists = ("wrapped", "exchanged", "saved", "loaded", "called", "optimized", "steps", "hidden")
    return {name: [found.line(node) for node in getattr(uses, name)] for name in lists if getattr(uses, name)}


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("model = DDP(model)\n", {"wrapped": [3]}),
        ("loss = model(x)\nlog(loss)\n", {"called": [3]}),
        ("optimizer = AdamW(model.parameters())\noptimizer.step()\n", {"optimized": [3], "steps": [4]}),
        ("opt = AdamW(model.parameters())\nscaler.step(opt)\n", {"optimized": [3], "steps": [4]}),
        ("for p in model.parameters():\n    dist.all_reduce(p.grad)\n", {"exchanged": [4]}),
        ("grads = [p.grad for p in model.parameters()]\ndist.all_reduce(torch.cat(grads))\n", {"exchanged": [4]}),
        ("torch.save(model.state_dict(), 'm.pt')\n", {"saved": [3]}),
        ("model.load_state_dict(torch.load('m.pt'))\n", {"loaded": [3]}),
        ("for m in [model]:\n    m.load_state_dict(state)\n", {"loaded": [4]}),
        ("mystery(model)\n", {"hidden": [3]}),
        ("print(sum(p.numel() for p in model.parameters()))\n", {}),
        ("from helper import agree\nagree(model)\n", {"exchanged": [3]}),
        ("policy.energy = model\n", {"hidden": [3]}),
        ("keep = [model]\nsync(keep)\n", {"exchanged": [4]}),
        ("load_into(model, cfg)\n", {"loaded": [3]}),
        ("opt = SGD(x)\nopt.add_param_group({'params': [*model.parameters()]})\nopt.step()\n", {"steps": [5]}),
        ("engine, *_ = deepspeed.initialize(model=model)\n", {"wrapped": [3]}),
        ("torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)\n", {}),
        ("flat = torch.cat([p.grad for p in model.parameters()])\nsync_all(flat)\n", {"exchanged": [4]}),
        ("holder = Holder(model)\nDDP(holder)\n", {"hidden": [3], "wrapped": [4]}),
        ("class T:\n    def __init__(self, m):\n        self.m = m\n\n\nt = T(model)\nmystery(t)\n", {"hidden": [9]}),
        ("def same(m):\n    return m\n\n\nother = same(model)\nDDP(other)\nmystery(same(x))\n", {"wrapped": [8]}),
        ("distributed_energy_inbatch_swap_infonce(model, h, a)\n", {}),
        ("getattr(losses, name)(model)\n", {"hidden": [3]}),
        ("model.register_forward_hook(f)\n", {"hidden": [3]}),
        ("class M(Base):\n    def __init__(self):\n        self.m = model\n", {"hidden": [3]}),
        ("for group in AdamW(model.parameters()).param_groups:\n    group['lr'] = 1\n", {"optimized": [3]}),
    ],
)
def test_what_becomes_of_a_module(tmp_path: Path, body: str, expected: dict[str, list[int]]) -> None:
    helper = "import torch.distributed as dist\ndef agree(m):\n    dist.broadcast([*m.parameters()][0])\n"
    assert uses_in(tmp_path, body, helper=helper) == expected


def test_a_helper_that_takes_several_modules_does_not_make_them_one(tmp_path: Path) -> None:
    body = "def same(m):\n    return m\n\n\nmodel = same(model)\nother = same(Other())\nother = DDP(other)\n"
    assert uses_in(tmp_path, body) == {}

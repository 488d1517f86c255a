"""What may call a function that is passed around."""

from __future__ import annotations

from pathlib import Path

import pytest

from energy_patch.analysis.aliases import Aliases
from energy_patch.analysis.calls import CallGraph
from energy_patch.analysis.holders import Holders
from tests.analysis.programs import program

HELPER = """\
def swap(model):
    ...


ALL = {"swap": swap}


def get(name):
    return ALL[name]


def run(loss, model):
    loss(model)


def average(model, loss=swap):
    model.all_reduce()
    loss(model)
"""


@pytest.mark.parametrize(
    ("body", "calls"),
    [
        ("swap(m)", []),  # a call that is followed anyway
        ("f = swap\nf(m)", []),  # a name that only means it, too
        ("f = partial(swap, 1)\nf(m)", ["partial(swap, 1)", "f(m)"]),
        ("f = torch.compile(swap)\nf(m)", ["f(m)"]),
        ("d = {'a': swap}\nd['a'](m)\ne['a'](m)", ["d['a'](m)"]),
        ("d = {}\nd['a'] = swap\nd['a'](m)", ["d['a'](m)"]),
        ("d = {}\nd.update(a=swap)\nd.get('a')(m)", ["d.update(a=swap)", "d.get('a')(m)", "d.get('a')"]),
        ("f, g = swap, other\n", []),
        ("fs = [swap]\nfor f in fs:\n    f(m)", []),  # loops are not followed
        ("f = swap if a else other\nf(m)\nother(m)", ["f(m)"]),
        ("(f := swap or other)(m)", []),
        ("f = lambda: swap\nf()(m)\ng()(m)", ["f()(m)", "f()"]),
        ("f = lambda m: swap(m)\nf(m)", ["f(m)"]),
        ("class A:\n    f = staticmethod(swap)\nA.f(m)\nB.f(m)", ["A.f(m)"]),
        (
            "class A:\n    def __init__(self):\n        self.f = swap\n"
            "    def g(self):\n        self.f(m)\n        self.h(m)",
            ["self.f(m)"],
        ),
        ("import helper\nhelper.ALL['a'](m)", ["helper.ALL['a'](m)"]),
        ("from helper import ALL as LOSSES\nLOSSES['a'](m)", ["LOSSES['a'](m)"]),
        ("from helper import get\nget('a')(m)\nother('a')(m)", ["get('a')(m)"]),
        ("from helper import run\nrun(swap, m)", ["loss(model)"]),
        ("def f(m):\n    swap(m)\nd = {'a': f}\nd['a'](m)", ["d['a'](m)"]),
        ("def f(m):\n    swap(m)\n    dist.all_reduce(m)\nd = {'a': f}\nd['a'](m)", []),
        ("checkpoint(swap, m)", ["checkpoint(swap, m)"]),
        ("launch(swap, m)", []),
        ("engine = Engine()\nengine.launch(swap)\nengine.prepare(m)", []),
        ("engine = Engine()\nengine.register(swap)\nengine.loss(m)", ["engine.register(swap)", "engine.loss(m)"]),
        ("def f(m):\n    swap(m)\ndef main(m):\n    f(m)\nd = {'a': main}\nd['a'](m)", []),  # main does more
    ],
)
def test_what_may_be_a_call(tmp_path: Path, body: str, calls: list[str]) -> None:
    found = program(tmp_path, f"from helper import swap\n{body}\n", helper=HELPER)
    found.reach((tmp_path / "helper.py").resolve())
    aliases = Aliases(CallGraph(found))
    start = [node for node, _ in found.names if node.value == "swap" and found.tree(node) is found.script]
    start += [node for node, _ in found.names if node.value == "swap" and "ALL" in found.seen(node)]
    held = [found.text(call) for call in Holders(aliases, start).calls]
    assert sorted(held) == sorted(calls)

"""Between which bounds the results of a function lie: its statements followed, where their text shows it."""

from __future__ import annotations

from pathlib import Path

import libcst as cst
import pytest

from energy_patch.analysis.aliases import Aliases
from energy_patch.analysis.calls import CallGraph
from energy_patch.analysis.constants import Constant, Constants
from energy_patch.analysis.intervals import Interval, Known, joined
from energy_patch.analysis.program import Program
from energy_patch.analysis.ranges import Ranges
from energy_patch.analysis.settings import Settings
from energy_patch.syntax.source import read_source

MODEL = """\
import torch
from torch import nn

SCALE = 3.0


def halved(x, by=2.0):
    return x / by


class Pool(nn.Module):
    def forward(self, x):
        return x.mean(dim=1)


class Again(nn.Module):
    def forward(self, x):
        return self.forward(x)


class Model(nn.Module):
    def __init__(self):
        self.act = nn.Sequential(nn.Linear(8, 1), nn.Tanh())
        self.pool = Pool()
        self.again = Again()
        self.scale = 2.0
        self.learned = nn.Parameter(torch.ones(1))

    def shifted(self, x):
        return x + 0.1

    def forward(self, h, reduce="mean", gamma=None, times=1):
        E = torch.sigmoid(h)
"""


def results(folder: Path, body: str, **given: Known) -> Known:
    """What `forward` returns, with a body behind `E`, which is a sigmoid."""
    (folder / "model.py").write_text(MODEL + "".join(f"        {line}\n" for line in body.splitlines()), "utf-8")
    program = Program(read_source(folder / "model.py"))
    graph = CallGraph(program)
    model = next(node for node in program.scopes if isinstance(node, cst.ClassDef) and node.name.value == "Model")
    forward = program.method(model, "forward")
    assert forward is not None
    return Ranges(graph, Constants(Aliases(graph), Settings(program))).results(forward, given)


@pytest.mark.parametrize(
    ("body", "bounds"),
    [
        ("return E", (0, 1)),
        ("return 2 * E + 0.5", (0.5, 2.5)),
        ("return E * -2", (-2, 0)),
        ("return -E", (-1, 0)),
        ("return 1 - E", (0, 1)),
        ("return E - torch.tanh(h)", (-1, 2)),
        ("return E / 4", (0, 0.25)),
        ("return E / -4", (-0.25, 0)),
        ("return E / E", None),
        ("return E ** 2", None),
        ("return E * self.scale * SCALE", (0, 6)),
        ("return E * self.learned", None),
        ("return E.view(-1)[:, 0].mean()", (0, 1)),
        ("return torch.mean(E, dim=1)", (0, 1)),
        ("return E.sum()", None),
        ("return h.mean()", None),
        ("return self.act(h)", (-1, 1)),
        ("return self.pool(E)", (0, 1)),
        ("return self.again(E)", None),
        ("return self.shifted(E)", (0.1, 1.1)),
        ("return halved(E)", (0, 0.5)),
        ("return halved(E, by=4)", (0, 0.25)),
        ("return halved(*parts)", None),
        ("return E if reduce == 'mean' else h", (0, 1)),
        ("return E if reduce != 'mean' else h", None),
        ("return E if gamma is None else h", (0, 1)),
        ("return E if not gamma else h", (0, 1)),
        ("return E if gamma is None and reduce == 'mean' else h", (0, 1)),
        ("return E if gamma is not None or reduce == 'mean' else h", (0, 1)),
        ("return E if h.any() or reduce == 'mean' else h", (0, 1)),
        ("return E if h.any() else E - 1", (-1, 1)),
        ("return E if h.any() else h", None),
        ("E *= 2\nE -= 1\nreturn E", (-1, 1)),
        ("E **= 2\nreturn E", None),
        ("E = E * 2\nreturn E", (0, 2)),
        ("E[0] = 7\nreturn E", None),
        ("E, x = split(E)\nreturn E", None),
        ("E.mul_(2)\nreturn E", None),
        ("E.size()\nreturn E", (0, 1)),
        ("assert E.ndim == 2\nreturn E", (0, 1)),
        ("with torch.no_grad():\n    E = E + 1\nreturn E", (1, 2)),
        ("if gamma is not None:\n    E = h\nreturn E", (0, 1)),
        (
            "if reduce == 'sum':\n    return h\nelif reduce == 'mean':\n    return E\nelse:\n    raise ValueError",
            (0, 1),
        ),
        ("if h.any():\n    E = E + 1\nreturn E", (0, 2)),
        ("if h.any():\n    E = h\nreturn E", None),
        ("if h.any():\n    raise ValueError\nreturn E", (0, 1)),
        ("if h.any():\n    return h\nreturn E", None),
        ("if h.any():\n    return E", None),  # else it is None
        ("for layer in h:\n    E = layer(E)\nreturn E", None),
        ("for layer in h:\n    x = layer(E)\nreturn E", (0, 1)),
        ("for layer in h:\n    return h\nreturn E", None),
        ("try:\n    E = h\nexcept ValueError:\n    pass\nreturn E", None),
        ("def E(x):\n    return x\nreturn E", None),
        ("x: float = 2.0\nreturn E * x", (0, 2)),
    ],
)
def test_bounds(tmp_path: Path, body: str, bounds: tuple[float, float] | None) -> None:
    found = results(tmp_path, body)
    if bounds is None:
        assert not isinstance(found, Interval)
    else:
        assert isinstance(found, Interval)
        assert (found.low, found.high) == pytest.approx(bounds)
        assert found.width == pytest.approx(bounds[1] - bounds[0])


def test_what_is_given_counts_in_place_of_defaults(tmp_path: Path) -> None:
    body = "return E if reduce == 'mean' else h"
    assert results(tmp_path, body, reduce=Constant("sum")) is None
    assert results(tmp_path, body, reduce=None) is None
    assert results(tmp_path, "return E * times", times=Constant(3.0)) == Interval(0, 3)


def test_joined() -> None:
    assert joined([Interval(0, 1), Interval(3, 4)]) == Interval(0, 4)
    assert joined([Constant("a"), Constant("a")]) == Constant("a")
    assert joined([Constant("a"), Constant("b")]) is None
    assert joined([Constant(1.0), Interval(2, 3)]) == Interval(1, 3)
    assert joined([Interval(0, 1), None]) is None
    assert joined([]) is None

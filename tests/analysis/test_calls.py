"""Who calls a function, and with what."""

from __future__ import annotations

from pathlib import Path

from energy_patch.analysis.calls import CallGraph
from tests.analysis.programs import only_call, program


def test_arguments_become_parameters(tmp_path: Path) -> None:
    found = program(
        tmp_path,
        "class A:\n    def f(self, x, y=1, *, z=2):\n        pass\n\n    def g(self):\n        self.f(10, z=30)\n",
    )
    graph = CallGraph(found)
    call = only_call(found)
    assert [(name, found.text(item.value)) for name, item in graph.bound(call)] == [("x", "10"), ("z", "30")]
    assert graph.argument(call, "y") is None
    function = graph.callee[call]
    assert [found.text(value) for value, _ in graph.passed(function, "x")] == ["10"]

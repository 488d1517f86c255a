"""What a name means in the files of a script, and how many of them are read."""

from __future__ import annotations

from pathlib import Path

import pytest

from energy_patch.analysis.calls import CallGraph
from energy_patch.analysis.files import MAX_MODULES
from tests.analysis.programs import only_call, program

HELPER = "def build():\n    return 1\n\n\nclass Model:\n    def forward(self):\n        return 2\n"


@pytest.mark.parametrize(
    ("script", "name"),
    [
        ("from helper import build\nbuild()\n", "build"),
        ("from helper import build as make\nmake()\n", "build"),
        ("import helper\nhelper.build()\n", "build"),
        ("import helper as h\nh.build()\n", "build"),
        ("from helper import *\nbuild()\n", "build"),
        ("from package import build\nbuild()\n", "build"),
        ("import package.inner\npackage.inner.build()\n", "build"),
        ("from package import inner\ninner.build()\n", "build"),
        ("def build():\n    pass\n\nmake = build\nmake()\n", "build"),
        ("from helper import Model\nm = Model()\nm.forward()\n", "forward"),
        ("from helper import Model\nclass Mine(Model):\n    def go(self):\n        self.forward()\n", "forward"),
        ("from helper import build\ndef build():\n    pass\nbuild()\n", None),  # which of the two, cannot be told
        ("from elsewhere import build\nbuild()\n", None),
        ("from circle import build\nbuild()\n", None),
        ("model = model.to(0)\nmodel.forward()\n", None),
        ("from helper import Model\nm = Model()\nm = other()\nm.forward()\n", None),
    ],
)
def test_what_a_call_means(tmp_path: Path, script: str, name: str | None) -> None:
    found = program(
        tmp_path,
        script,
        helper=HELPER,
        package_="from .inner import build\n",
        **{"package/inner": HELPER},
        circle="from script import build\n",
    )
    callee = CallGraph(found).callee.get(only_call(found))
    assert (callee.name.value if callee is not None else None) == name


def test_many_modules_are_not_all_parsed(tmp_path: Path) -> None:
    count = MAX_MODULES + 5
    script = "".join(f"import m{number}\nm{number}.f()\n" for number in range(count))
    found = program(tmp_path, script, **{f"m{number}": "def f():\n    pass\n" for number in range(count)})
    assert len(CallGraph(found).callee) == MAX_MODULES - 1
    assert len(found.trees) == MAX_MODULES


def test_the_last_definition_of_a_method_counts(tmp_path: Path) -> None:
    text = "class A:\n    def f(self):\n        return 1\n\n    def f(self):\n        return 2\n\n\nA().f()\n"
    found = program(tmp_path, text)
    assert found.line(CallGraph(found).callee[only_call(found)]) == 5

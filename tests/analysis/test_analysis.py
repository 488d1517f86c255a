"""What a name means, who calls a function, where a value comes from, and what becomes of a module, across files."""

from __future__ import annotations

import ast
from pathlib import Path

import libcst as cst
import pytest

import energy_patch
from energy_patch.analysis.aliases import Aliases, wrapped_part
from energy_patch.analysis.calls import CallGraph
from energy_patch.analysis.files import MAX_MODULES
from energy_patch.analysis.follower import uses_of
from energy_patch.analysis.program import Program
from energy_patch.analysis.settings import Settings
from energy_patch.syntax.source import read_source


def program(folder: Path, script: str, **files: str) -> Program:
    """The files of a folder by their names without `.py`; `package_` is the package's own."""
    for name, text in {"script": script, **files}.items():
        path = folder / "package" / "__init__.py" if name == "package_" else folder / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
    return Program(read_source(folder / "script.py"))


def only_call(found: Program) -> cst.Call:
    """The script's last call."""
    return max((call for call, _ in found.script.calls), key=found.line)


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


VALUES = """\
from helper import make


def wrap(module):
    return DDP(module)


def train(model):
    use(model)


policy, (energy), rest = make(), wrap(Energy()), 3
train(energy)
"""


def test_where_a_value_comes_from(tmp_path: Path) -> None:
    found = program(tmp_path, VALUES, helper="def make():\n    return Policy()\n")
    aliases = Aliases(CallGraph(found))
    use = next(call for call, _ in found.calls if found.text(call) == "use(model)")
    start = use.args[0].value
    made = [found.text(node) for node in aliases.made_from(start, found.scopes[start], wrapped_part)]
    assert made == ["wrap(Energy())", "DDP(module)", "Energy()"]
    ref = aliases.ref(start, found.scopes[start])
    assert ref is not None
    refs, origins = aliases.upward([ref])
    assert {item.name for item in refs} == {"model", "energy", "module"}
    assert [found.text(item.node) for item in origins] == ["Energy()"]


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
    ],
)
def test_what_becomes_of_a_module(tmp_path: Path, body: str, expected: dict[str, list[int]]) -> None:
    helper = "import torch.distributed as dist\ndef agree(m):\n    dist.broadcast([*m.parameters()][0])\n"
    assert uses_in(tmp_path, body, helper=helper) == expected


def test_a_helper_that_takes_several_modules_does_not_make_them_one(tmp_path: Path) -> None:
    body = "def same(m):\n    return m\n\n\nmodel = same(model)\nother = same(Other())\nother = DDP(other)\n"
    assert uses_in(tmp_path, body) == {}


def test_settings_of_another_file(tmp_path: Path) -> None:
    found = program(
        tmp_path,
        "from settings import Config\n\n\ndef train(cfg: Config):\n    return cfg.tau\n",
        settings="from dataclasses import dataclass\n\n\n"
        "@dataclass\nclass Config:\n    tau: float = 0.5\n    steps: int = 1_000\n",
    )
    CallGraph(found)
    settings = Settings(found)
    assert [(field.name, field.number, field.count) for field in settings.fields] == [
        ("tau", 0.5, None),
        ("steps", 1000.0, 1000),
    ]


def test_many_modules_are_not_all_parsed(tmp_path: Path) -> None:
    count = MAX_MODULES + 5
    script = "".join(f"import m{number}\nm{number}.f()\n" for number in range(count))
    found = program(tmp_path, script, **{f"m{number}": "def f():\n    pass\n" for number in range(count)})
    assert len(CallGraph(found).callee) == MAX_MODULES - 1
    assert len(found.trees) == MAX_MODULES


PACKAGE = Path(energy_patch.__file__).parent
ONLY_DIAGNOSE = {"analysis", "diagnose"}


def imported(path: Path) -> set[str]:
    """The modules of the package that a file imports, anywhere in it."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("energy_patch."):
            names.add(node.module.split(".")[1])
    return names


def test_apply_does_not_depend_on_the_analysis() -> None:
    files = [path for path in PACKAGE.rglob("*.py") if not ONLY_DIAGNOSE & {*path.relative_to(PACKAGE).parts}]
    assert len(files) > 20
    users = {path.relative_to(PACKAGE).as_posix() for path in files if imported(path) & ONLY_DIAGNOSE}
    assert users == {"commands/diagnose.py"}


def test_the_analysis_does_not_know_diagnose() -> None:
    files = [*(PACKAGE / "analysis").glob("*.py")]
    assert len(files) > 4
    known = set().union(*(imported(path) for path in files))
    assert known <= {"analysis", "files", "locate", "refusal", "strategies", "syntax"}

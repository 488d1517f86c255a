"""A script of a package, started by ``python -m``, finds ``energy_losses`` where Python will look for it."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.conftest import Command

SCRIPT = """\
from {imported} import energy_inbatch_swap_infonce

def step(model, h, a, mask):
    return energy_inbatch_swap_infonce(model, h, a, mask)
"""


@pytest.mark.parametrize(
    ("script", "imported", "expected"),
    [
        ("lab/train.py", "lab.energy.energy_model", "lab.energy_losses"),
        ("lab/robots/train.py", "lab.energy.energy_model", "lab.robots.energy_losses"),
        ("lab/train.py", ".energy.energy_model", ".energy_losses"),
        ("lab/train.py", "energy.energy_model", "energy_losses"),  # the package's folder is on the path
        ("lab/train.py", "other.energy.energy_model", "energy_losses"),
        ("lab/plain/train.py", "lab.energy.energy_model", "energy_losses"),  # a folder that is no package
        ("lab/energy/train.py", "energy.energy_model", "energy_losses"),  # beside the script, there is such a module
    ],
)
def test_the_import_is_as_that_of_the_loss(
    tmp_path: Path, energy_patch: Command, script: str, imported: str, expected: str
) -> None:
    for name in ("lab", "lab/robots", "lab/energy", "lab/energy/energy"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").touch()
    (tmp_path / "lab/energy/energy/energy_model.py").touch()
    path = tmp_path / script
    path.parent.mkdir(exist_ok=True)
    path.write_text(SCRIPT.format(imported=imported))
    original = path.read_bytes()
    assert energy_patch("apply", path).exit_code == 0
    nodes = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ImportFrom)]
    written = ["." * node.level + (node.module or "") for node in nodes]
    assert f"{expected}.global_infonce" in written
    assert f"{expected}.ranks" in written
    copied = path.with_name("copied.py")
    copied.write_bytes(path.read_bytes())
    assert b"a copy of train.py" in energy_patch("status", copied).stdout
    assert energy_patch("revert", path, copied).exit_code == 0
    assert path.read_bytes() == copied.read_bytes() == original
    assert not (path.parent / "energy_losses").exists()


def test_an_import_of_several_modules(tmp_path: Path, energy_patch: Command) -> None:
    (tmp_path / "lab").mkdir()
    (tmp_path / "lab" / "__init__.py").touch()
    path = tmp_path / "lab" / "train.py"
    call = "    return lab.energy.energy_model.energy_inbatch_swap_infonce(model, h, a, mask)\n"
    path.write_text(f"import torch, lab.energy.energy_model\n\ndef step(model, h, a, mask):\n{call}")
    assert energy_patch("apply", path).exit_code == 0
    assert "from lab.energy_losses.ranks import replicate\n" in path.read_text()


@pytest.mark.parametrize(
    ("script", "imports", "expected"),
    [
        ("lab/train.py", "from .cfg import Cfg", ".energy_losses"),
        ("lab/train.py", "from lab.cfg import Cfg", "lab.energy_losses"),
        ("lab/train.py", "import os, lab.cfg", "lab.energy_losses"),
        ("lab/train.py", "from lab.cfg import *", "lab.energy_losses"),
        ("lab/train.py", "from lab import cfg", "lab.energy_losses"),
        ("lab/robots/train.py", "from lab.cfg import Cfg", "lab.robots.energy_losses"),
        ("lab/robots/train.py", "from robots.arm import Arm", "robots.energy_losses"),
        ("lab/train.py", "from labs.cfg import Cfg", "energy_losses"),
        ("lab/train.py", "try:\n    from .cfg import Cfg\nexcept ImportError:\n    Cfg = None", "energy_losses"),
        ("lab/plain/train.py", "from lab.cfg import Cfg", "energy_losses"),  # a folder that is no package
        ("plain/train.py", "from plain.cfg import Cfg", "plain.energy_losses"),  # but may be one by its name
        ("plain/train.py", "from plain import cfg", "plain.energy_losses"),
        ("plain/train.py", "from plain.elsewhere import cfg", "energy_losses"),
    ],
)
def test_the_import_is_as_that_of_other_parts_of_the_package(
    tmp_path: Path, energy_patch: Command, script: str, imports: str, expected: str
) -> None:
    for name in ("lab/__init__.py", "lab/cfg.py", "lab/robots/__init__.py", "lab/robots/arm.py", "plain/cfg.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    path = tmp_path / script
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"{imports}\n{SCRIPT.format(imported='energy.energy_model')}")
    assert energy_patch("apply", path).exit_code == 0
    assert f"\nfrom {expected}.ranks import replicate\n" in path.read_text()


@pytest.mark.parametrize("package", ["lab/__init__.py", "lab/notes.txt"])
@pytest.mark.parametrize(
    ("module", "imports", "expected"),
    [
        ("lab/losses.py", "from lab.losses import step", ".energy_losses"),
        ("lab/losses.py", "from lab import losses", ".energy_losses"),
        ("lab/losses.py", "import lab.losses as losses", ".energy_losses"),
        ("lab/inner/losses.py", "from lab.inner.losses import step", "..energy_losses"),
        ("lab/losses.py", "from losses import step", "energy_losses"),
    ],
)
def test_the_call_is_in_another_module_of_the_package(
    tmp_path: Path, energy_patch: Command, package: str, module: str, imports: str, expected: str
) -> None:
    script, path = tmp_path / "lab/train.py", tmp_path / module
    path.parent.mkdir(parents=True)
    (tmp_path / package).touch()
    path.write_text(SCRIPT.format(imported="energy.energy_model"))
    script.write_text(f"{imports}\n\n{'' if 'step' in imports else 'losses.'}step(1, 2, 3, 4)\n")
    original = path.read_bytes()
    applied = energy_patch("apply", script)
    assert applied.exit_code == 0, applied.stderr
    assert f"    from {expected}.ranks import replicate\n" in path.read_text()
    assert (tmp_path / "lab/energy_losses/ranks.py").is_file()
    assert energy_patch("revert", script).exit_code == 0
    assert path.read_bytes() == original

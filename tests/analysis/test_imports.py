"""Only `diagnose` depends on the analysis, and the analysis on nothing of `diagnose`."""

from __future__ import annotations

import ast
from pathlib import Path

import energy_patch

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

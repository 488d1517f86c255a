"""Small programs, written to a folder and parsed."""

from __future__ import annotations

from pathlib import Path

import libcst as cst

from energy_patch.analysis.program import Program
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

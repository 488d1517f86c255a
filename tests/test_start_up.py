"""What each command imports: it is felt at every start."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import Command

REPORT = (
    "import sys; from energy_patch.cli import main\n"
    "try: main()\n"
    "finally: print(*sorted({'torch', 'libcst', 'matplotlib'} & {*sys.modules}), file=sys.stderr)"
)
SCRIPT = (
    "from energy.energy_model import energy_inbatch_swap_infonce\n"
    "def run(m, h, a):\n    return energy_inbatch_swap_infonce(m, h, a)\n"
)


def imported_by(folder: Path, *arguments: str, first: str = "") -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", first + REPORT, *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return {*done.stderr.splitlines()[-1].split()}


@pytest.mark.parametrize(
    ("arguments", "parses"),
    [
        ("--help", False),
        ("--version", False),
        ("apply --help", False),
        ("status train.py", False),
        ("revert --dry-run train.py", False),
        ("revert train.py", False),
        ("status .", False),
        ("apply --no-sync --dry-run --full new.py", True),
        ("diagnose new.py", True),
    ],
)
def test_imports(arguments: str, parses: bool, tmp_path: Path, energy_patch: Command) -> None:
    (tmp_path / "train.py").write_text(SCRIPT)
    assert energy_patch("apply", "--no-sync", tmp_path / "train.py").exit_code == 0
    (tmp_path / "new.py").write_text(SCRIPT)
    assert imported_by(tmp_path, *arguments.split()) == ({"libcst"} if parses else set())


def test_an_import_is_noticed(tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text("")
    assert imported_by(tmp_path, "--help", first="import torch\n") == {"torch"}

"""Streams, color and width, as a person sees them."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest

from energy_patch.report.console import has_color
from tests.conftest import Command

SCRIPT = """\
from energy.energy_model import energy_inbatch_swap_infonce

def a_function_with_a_name_that_is_quite_long(energy_model, h, a, mask):
    return energy_inbatch_swap_infonce(energy_model, h, a, mask)[0]
"""
VARIABLES = ("NO_COLOR", "FORCE_COLOR", "TERM", "COLUMNS")


@pytest.fixture
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    path = tmp_path / "train.py"
    path.write_text(SCRIPT)
    return path


@pytest.mark.parametrize(
    ("mode", "variables", "expected"),
    [
        ("auto", {}, False),
        ("always", {}, True),
        ("always", {"NO_COLOR": "1"}, True),
        ("never", {"FORCE_COLOR": "1"}, False),
        ("auto", {"FORCE_COLOR": "1"}, True),
        ("auto", {"FORCE_COLOR": ""}, False),
        ("auto", {"FORCE_COLOR": "1", "NO_COLOR": "1"}, False),
        ("auto", {"FORCE_COLOR": "1", "NO_COLOR": ""}, True),
    ],
)
def test_color(
    mode: str,
    variables: dict[str, str],
    expected: bool,
    script: Path,
    energy_patch: Command,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In the diff, in the summary, in `status` and in `diagnose` alike; never in JSON."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    dry = energy_patch("apply", "--dry-run", "--color", mode, script)
    assert (b"\x1b[32m+" in dry.stdout) == expected
    assert ("\x1b[32mwould change" in dry.stderr) == expected
    assert (b"\x1b[" in energy_patch("status", "--color", mode, script).stdout) == expected
    assert (b"\x1b[1m" in energy_patch("diagnose", "--color", mode, script).stdout) == expected
    assert energy_patch("apply", "--dry-run", "--json", "--color", mode, script).json["outcome"] == "would-change"


def test_a_terminal_has_color_unless_it_is_dumb(script: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not has_color(sys.stdout, "auto") or sys.stdout.isatty()
    ours, theirs = pty.openpty()
    with os.fdopen(ours, "rb"), os.fdopen(theirs, "w") as terminal:
        assert has_color(terminal, "auto")
        monkeypatch.setenv("NO_COLOR", "1")
        assert not has_color(terminal, "auto")
        monkeypatch.delenv("NO_COLOR")
        monkeypatch.setenv("TERM", "dumb")
        assert not has_color(terminal, "auto")


@pytest.mark.parametrize("columns", [66, 80])
def test_lists_and_tables_fit_the_terminal(
    columns: int, script: Path, energy_patch: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.chdir(script.parent)
    shown = energy_patch("diagnose", "train.py").stdout.decode()
    applied = energy_patch("apply", "train.py").stderr
    listed = energy_patch("status", "train.py").stdout.decode()
    for line in [*shown.splitlines(), *applied.splitlines()[:-2], *listed.splitlines()]:
        assert len(line) <= columns or line.startswith("  energy-patch apply"), line
    rows = [line for line in shown.splitlines() if re.search(r"\d  +[\d-]+", line)]
    assert len(rows) >= 8  # each strategy, and the script as it is, has its numbers on one line
    monkeypatch.delenv("COLUMNS")
    assert max(map(len, energy_patch("status", "train.py").stdout.decode().splitlines())) > columns


def test_a_printed_command_can_be_pasted(tmp_path: Path, energy_patch: Command) -> None:
    folder = tmp_path / "my scripts"
    folder.mkdir()
    script = folder / "train $HOME it's.py"
    script.write_text(SCRIPT)
    shown = energy_patch("diagnose", script).stdout.decode()
    (recommended,) = (line for line in shown.splitlines() if line.startswith("  energy-patch apply"))
    assert _run(recommended).returncode == 0
    assert script.read_text() != SCRIPT
    told = energy_patch("apply", "--strategy", "queue", script).stderr.splitlines()
    assert _run(told[-1].removeprefix("To take it back: ")).returncode == 0
    assert script.read_text() == SCRIPT


def _run(command: str) -> subprocess.CompletedProcess[bytes]:
    """A printed command, pasted into a shell."""
    words = command.strip().replace("energy-patch", f"{sys.executable} -m energy_patch", 1)
    return subprocess.run(["sh", "-c", words], capture_output=True, timeout=60, check=False)

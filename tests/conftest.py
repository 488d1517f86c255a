"""Helpers for tests that go through the public door: the command line, on real files."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from energy_patch.cli import main
from tests.scripts.json_schema import faults


@dataclass(frozen=True)
class Ran:
    """What one command answered."""

    exit_code: int
    stdout: bytes
    stderr: str

    @property
    def json(self) -> dict[str, Any]:
        """The one object on stdout, which is as the schema says."""
        answer: dict[str, Any] = json.loads(self.stdout)
        assert [*faults(answer)] == []
        return answer


Command = Callable[..., Ran]


def run_command(*arguments: object) -> Ran:
    """The command line in this process; a traceback is a failure, whatever the exit code."""
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return Ran(result.exit_code, result.stdout_bytes, result.stderr)


@pytest.fixture
def energy_patch() -> Command:
    return run_command


@pytest.fixture(autouse=True)
def a_plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without what may be asked for there: a width, colors."""
    for name in ("COLUMNS", "FORCE_COLOR", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)  # no power is cut here


def snapshot(folder: Path) -> dict[str, bytes | None]:
    """Every file below a folder with its bytes; folders are there as None."""
    return {
        str(path.relative_to(folder)): None if path.is_dir() else path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if "__pycache__" not in path.parts
    }


@contextlib.contextmanager
def working_directory(folder: Path) -> Iterator[Path]:
    """Commands that print relative paths are run from somewhere."""
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield folder
    finally:
        os.chdir(before)

"""Small modules in the place of the templates, and the folder that they are copied to."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from energy_patch.files import templates
from tests.files.patched_folder import MODULES, ORIGINAL


@pytest.fixture
def small_templates(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path_factory.mktemp("templates")
    for name, content in MODULES.items():
        (folder / name).write_bytes(content)
    monkeypatch.setattr(templates, "templates_folder", lambda: folder)
    return folder


@pytest.fixture
def quick_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing here looks at what a power cut leaves."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A folder with two scripts, one of which is executable."""
    folder = tmp_path / "vla-scripts"
    folder.mkdir()
    for name in ("one.py", "two.py"):
        (folder / name).write_bytes(ORIGINAL)
    (folder / "two.py").chmod(0o755)
    (folder / "mine.txt").write_bytes(b"mine")
    return folder

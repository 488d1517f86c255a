"""Whose folder `energy_losses/` is, and what was done to it since."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from energy_patch.files import templates
from energy_patch.files.folder import inspect_folder, script_home
from energy_patch.record.codec import dump_record
from energy_patch.record.schema import Record, module_hash
from energy_patch.refusal import Refusal
from tests.scripts.marked import TRAINING, read_marked

PATCH = read_marked(TRAINING)
RECORD = Record(
    {name: module_hash(templates.template_bytes(name)) for name in PATCH.entry.modules}, {"train.py": PATCH.entry}
)


@pytest.fixture
def ours(tmp_path: Path) -> Path:
    """A folder as `apply` leaves it."""
    folder = tmp_path / "energy_losses"
    folder.mkdir()
    for name in PATCH.entry.modules:
        (folder / name).write_bytes(templates.template_bytes(name))
    (folder / "patch.json").write_bytes(dump_record(RECORD))
    return tmp_path


def conflict(folder: Path) -> str:
    with pytest.raises(Refusal) as caught:
        inspect_folder(folder)
    assert caught.value.reason == "conflict"
    return caught.value.message


def test_absent(tmp_path: Path) -> None:
    state = inspect_folder(tmp_path)
    assert (state.present, state.record, state.modules) == (False, None, {})


def test_ours(ours: Path) -> None:
    state = inspect_folder(ours)
    assert state.record == RECORD
    assert set(state.modules) == set(PATCH.entry.modules)
    assert not any(module.edited for module in state.modules.values())


def test_modules_with_other_line_ends_are_not_edited(ours: Path) -> None:
    path = ours / "energy_losses" / "ranks.py"
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    assert not inspect_folder(ours).modules["ranks.py"].edited
    path.write_bytes(path.read_bytes() + b"# mine\n")
    assert inspect_folder(ours).modules["ranks.py"].edited


def test_modules_of_another_version_are_not_edited(ours: Path) -> None:
    path = ours / "energy_losses" / "ranks.py"
    path.write_bytes(b"# version 0\n")
    old = dataclasses.replace(RECORD, modules={**RECORD.modules, "ranks.py": module_hash(b"# version 0\n")})
    (ours / "energy_losses" / "patch.json").write_bytes(dump_record(old))
    assert not inspect_folder(ours).modules["ranks.py"].edited


def test_a_lost_record(ours: Path) -> None:
    folder = ours / "energy_losses"
    (folder / "patch.json").unlink()
    (folder / "__pycache__").mkdir()
    (folder / ".energy-patch-1-2.tmp").write_bytes(b"")
    state = inspect_folder(ours)
    assert state.present
    assert state.record is None
    (folder / "mine.py").write_bytes(b"")
    assert "mine.py" in conflict(ours)
    (folder / "mine.py").unlink()
    (folder / "ranks.py").write_bytes(b"# mine\n")
    assert "ranks.py" in conflict(ours)


def test_a_file_or_a_dangling_link_of_that_name(tmp_path: Path) -> None:
    path = tmp_path / "energy_losses"
    path.write_bytes(b"")
    conflict(tmp_path)
    path.unlink()
    path.symlink_to("nowhere")
    conflict(tmp_path)


def test_a_folder_in_the_place_of_the_record(ours: Path) -> None:
    path = ours / "energy_losses" / "patch.json"
    path.unlink()
    path.mkdir()
    with pytest.raises(Refusal) as caught:
        inspect_folder(ours)
    assert caught.value.reason == "unreadable"


def test_a_link_is_recorded_where_it_leads(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "train.py").write_bytes(b"")
    (tmp_path / "link.py").symlink_to(tmp_path / "real" / "train.py")
    assert script_home(tmp_path / "link.py") == ((tmp_path / "real").resolve(), "train.py")

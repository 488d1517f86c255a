"""Writing: links, modes, owners, locks, and other people who write at the same time."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from energy_patch.files import atomic, lock
from energy_patch.files.changes import FilePatch, apply_changes
from energy_patch.files.folder import inspect_folder
from energy_patch.files.transaction import ChangeSet, FileChange, sweep, write_changes
from energy_patch.refusal import Refusal
from energy_patch.syntax.source import read_source
from tests.files.patched_folder import GLOBAL, QUEUE, modes, planned, run, tree

pytestmark = pytest.mark.usefixtures("small_templates", "quick_disk")


def test_a_link_stays_and_its_target_changes(home: Path, tmp_path: Path) -> None:
    link = tmp_path / "link.py"
    link.symlink_to(home / "one.py")
    source = read_source(link)
    write_changes(apply_changes(home, [FilePatch("one.py", source, GLOBAL.patched, GLOBAL.entry)]).changes)
    assert link.is_symlink()
    assert (home / "one.py").read_bytes() == GLOBAL.patched
    assert set(inspect_folder(home).record.scripts) == {"one.py"}  # type: ignore[union-attr]


def test_the_mode_of_new_files_is_the_usual_one(home: Path) -> None:
    run(home, GLOBAL)
    usual = home / "usual"
    usual.touch()
    ranks = home / "energy_losses" / "ranks.py"
    assert stat.S_IMODE(ranks.stat().st_mode) == stat.S_IMODE(usual.stat().st_mode)
    assert modes(home) == {"one.py": 0o644, "two.py": 0o755}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_the_owner_is_kept(home: Path) -> None:
    os.chown(home / "one.py", 12345, 23456)
    run(home, GLOBAL)
    status = (home / "one.py").stat()
    assert (status.st_uid, status.st_gid) == (12345, 23456)


def test_an_owner_that_cannot_be_kept_is_no_failure(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object) -> None:
        raise PermissionError(errno.EPERM, "not yours")

    kept = (home / "one.py").stat()
    monkeypatch.setattr(os, "chown", refuse)
    atomic.keep_owner(home / "one.py", os.stat_result([*kept[:4], kept.st_uid + 1, *kept[5:]]))
    run(home, GLOBAL)
    assert (home / "one.py").read_bytes() == GLOBAL.patched


def unwritable(found: ChangeSet) -> Refusal:
    with pytest.raises(Refusal) as caught:
        write_changes(found.changes)
    assert caught.value.reason == "unwritable"
    return caught.value


def test_a_script_that_may_not_be_written(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found, before = planned(home, GLOBAL), tree(home)
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path).name != "two.py")
    assert "two.py is read-only" in unwritable(found).message
    assert tree(home) == before
    assert not (home / "energy_losses").exists()


def test_a_folder_that_may_not_be_written(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found, before = planned(home, GLOBAL), tree(home)

    def refuse(path: Path, *arguments: object, **keywords: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    monkeypatch.setattr(Path, "mkdir", refuse)
    message = unwritable(found).message
    assert os.strerror(errno.EACCES) in message
    assert str(home / "energy_losses") in message
    assert tree(home) == before


def test_a_pipe_is_no_script(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.py")
    with pytest.raises(Refusal, match="not a regular file"):
        atomic.kept_status(tmp_path / "pipe.py")


def test_a_script_that_changed_since_it_was_read(home: Path) -> None:
    found = planned(home, GLOBAL)
    (home / "two.py").write_bytes(b"somebody else\n")
    before = tree(home)
    assert "two.py changed while energy-patch was running" in unwritable(found).message
    assert tree(home) == before
    assert not (home / "energy_losses").exists()


def test_a_second_run_waits_but_not_for_ever(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = planned(home, GLOBAL)
    monkeypatch.setattr(lock, "PATIENCE", 0.1)
    with locked_elsewhere(home):
        assert "another energy-patch is at work" in unwritable(found).message
        sweep(home)
    assert not (home / "energy_losses").exists()
    write_changes(found.changes)


def test_without_locks_a_second_run_is_noticed_all_the_same(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", refuse)
    one, two = planned(home, GLOBAL), planned(home, QUEUE)
    write_changes(one.changes)
    after = tree(home)
    assert "changed while" in unwritable(two).message
    assert tree(home) == after


def test_what_a_killed_run_left_is_swept(home: Path) -> None:
    (home / "energy_losses").mkdir()
    for folder in (home, home / "energy_losses"):
        (folder / ".energy-patch-77-0.tmp").write_bytes(b"half")
    sweep(home)
    assert set(tree(home)) == {"mine.txt", "one.py", "two.py"}
    assert not (home / "energy_losses").exists()


def test_several_changes_of_one_file(tmp_path: Path) -> None:
    path = tmp_path / "a"
    write_changes([FileChange(path, None, b"1"), FileChange(path, b"1", b"2"), FileChange(path, b"2", b"2")])
    assert path.read_bytes() == b"2"
    with pytest.raises(Refusal):
        write_changes([FileChange(path, b"2", b"3"), FileChange(path, b"x", b"4")])
    assert path.read_bytes() == b"2"
    write_changes([])


@contextlib.contextmanager
def locked_elsewhere(folder: Path) -> Iterator[None]:
    descriptor = os.open(folder, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    yield
    os.close(descriptor)

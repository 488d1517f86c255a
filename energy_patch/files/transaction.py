"""Writing all changes of a run, or none: each file atomically, and taken back where one fails."""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from energy_patch.files.atomic import put, write_temporary
from energy_patch.files.folder import CACHE_NAME, TEMPORARY_PREFIX, TEMPORARY_SUFFIX
from energy_patch.files.lock import locked
from energy_patch.refusal import Refusal
from energy_patch.strategies.base import FOLDER_NAME


@dataclass(frozen=True)
class FileChange:
    """One file before and after; None is a file that is not there."""

    path: Path
    before: bytes | None
    after: bytes | None


@dataclass(frozen=True)
class ChangeSet:
    """Changes in the order in which they are to be written, and what a person should know about them."""

    changes: tuple[FileChange, ...]
    notes: tuple[str, ...] = ()


def without_empty(changes: list[FileChange]) -> tuple[FileChange, ...]:
    return tuple(change for change in changes if change.before != change.after)


def bytes_or_none(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None


def target(path: Path) -> Path:
    """Where a symlink leads: the link itself stays."""
    return path.resolve()


def write_changes(changes: Sequence[FileChange]) -> None:
    """Write all changes in their order, each file atomically; on any failure undo those already written.

    Every new content lies on the disk beside its file before the first file is replaced, so that a full disk
    or a folder without permission is met while nothing has happened yet.

    Raises:
        Refusal: `unwritable`, with everything as it was before.
    """
    wanted = without_empty([replace(change, path=target(change.path)) for change in changes])
    if not wanted:
        return
    run = _Run()
    try:
        with locked({_home_of(change.path) for change in wanted}):
            try:
                run.stage(wanted)
                run.commit()
            except BaseException:
                with _no_interrupt():
                    run.roll_back()
                raise
            finally:
                run.discard()
            run.tidy()
    except OSError as error:
        raise _unwritable(error, run) from error


def sweep(folder: Path) -> None:
    """Remove what a killed run left beside the scripts of `folder`: temporary files, an empty folder of ours."""
    ours = folder / FOLDER_NAME
    with contextlib.suppress(OSError, Refusal), locked({folder.resolve()}):
        _remove_if_empty(ours)


def _unwritable(error: OSError, run: _Run) -> Refusal:
    path = run.at or error.filename or "a file"
    message = f"{path} cannot be written ({error.strerror or error})"
    if run.lost:
        names = ", ".join(str(path) for path in run.lost)
        return Refusal("unwritable", f"{message}; and {names} could not be put back: run the command again")
    return Refusal("unwritable", f"{message}; nothing was changed")


class _Run:
    """The state of one transaction: what lies staged, what is replaced, which folders were made."""

    def __init__(self) -> None:
        self.at: Path | None = None
        self.lost: list[Path] = []
        self._staged: list[tuple[FileChange, Path | None]] = []
        self._temporaries: list[Path] = []
        self._done: list[FileChange] = []
        self._made: list[Path] = []

    def stage(self, changes: Sequence[FileChange]) -> None:
        seen: set[Path] = set()
        for change in changes:
            self.at = change.path
            if change.path not in seen:
                _check_unchanged(change)
            seen.add(change.path)
            self._make_folder(change.path.parent)
            temporary = None if change.after is None else self._temporary(change.path, change.after)
            self._staged.append((change, temporary))

    def commit(self) -> None:
        for change, temporary in self._staged:
            self.at = change.path
            self._put(change, temporary)

    def roll_back(self) -> None:
        """Latest first. A file that is not as we left it was taken over by somebody: hands off."""
        for change in reversed(self._done):
            try:
                if change.before != change.after and bytes_or_none(change.path) == change.after:
                    temporary = None if change.before is None else self._temporary(change.path, change.before)
                    put(temporary, change.path)
            except OSError:
                self.lost.append(change.path)
        for folder in reversed(self._made):
            self._discard_temporaries()
            with contextlib.suppress(OSError):
                folder.rmdir()

    def discard(self) -> None:
        self._discard_temporaries()

    def tidy(self) -> None:
        """A folder that lost its last file goes too; that it cannot is no reason to undo anything."""
        folders = {change.path.parent for change in self._done if change.after is None}
        for folder in folders:
            with contextlib.suppress(OSError):
                _remove_if_empty(folder)

    def _put(self, change: FileChange, temporary: Path | None) -> None:
        _check_unchanged(change)
        self._done.append(change)  # before the fact: an interrupt may come between the two
        put(temporary, change.path)

    def _make_folder(self, folder: Path) -> None:
        if not folder.is_dir():
            self._made.append(folder)
            folder.mkdir()

    def _temporary(self, target: Path, content: bytes) -> Path:
        number = next(_NUMBERS)
        path = target.parent / f"{TEMPORARY_PREFIX}{os.getpid()}-{number}{TEMPORARY_SUFFIX}"
        self._temporaries.append(path)
        write_temporary(path, target, content)
        return path

    def _discard_temporaries(self) -> None:
        for path in self._temporaries:
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)


_NUMBERS = itertools.count()


def _check_unchanged(change: FileChange) -> None:
    if bytes_or_none(change.path) != change.before:
        raise changed_meanwhile(change.path)


def changed_meanwhile(path: Path) -> Refusal:
    return Refusal("unwritable", f"{path} changed while energy-patch was running; nothing was changed by it, run again")


def _remove_if_empty(folder: Path) -> None:
    """Remove `folder` if nothing is left in it but what Python compiled from modules that are gone."""
    if folder.name != FOLDER_NAME or not folder.is_dir():
        return
    entries = list(folder.iterdir())
    if [entry.name for entry in entries] == [CACHE_NAME]:
        cache = entries[0]
        compiled = list(cache.iterdir())
        if all(".pyc" in path.name and path.is_file() for path in compiled):
            for path in compiled:
                path.unlink()
            cache.rmdir()
            entries = []
    if not entries:
        folder.rmdir()


def _home_of(path: Path) -> Path:
    """The folder of the scripts that a changed file belongs to."""
    return path.parent.parent if path.parent.name == FOLDER_NAME else path.parent


@contextlib.contextmanager
def _no_interrupt() -> Iterator[None]:
    """Ctrl-C, pressed twice, must not stop the way back."""
    if sys.platform == "win32" or threading.current_thread() is not threading.main_thread():
        yield
        return
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)

"""What a run will do to the files, as a list that is previewed and written alike, all of it or none."""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import stat
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from energy_patch.files.templates import module_closure, template_bytes, template_names
from energy_patch.record.schema import (
    CACHE_NAME,
    RECORD_NAME,
    TEMPORARY_PREFIX,
    TEMPORARY_SUFFIX,
    FolderState,
    Record,
    ScriptEntry,
    current_entry,
    dump_record,
    inspect_folder,
    module_hash,
    script_home,
    sha256,
)
from energy_patch.refusal import Refusal
from energy_patch.strategies.base import FOLDER_NAME
from energy_patch.syntax.source import Source

if sys.platform != "win32":
    import fcntl


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


@dataclass(frozen=True)
class FilePatch:
    """One file as it is now, by its path below the folder of the record, and as it will be, with its entry."""

    name: str
    source: Source
    patched: bytes
    entry: ScriptEntry


# What to do


def apply_changes(folder: Path, files: Sequence[FilePatch]) -> ChangeSet:
    """Modules, a record that knows each script old and new, the scripts, the final record, stale modules.

    A script whose bytes stay as they are keeps its entry; modules that it lost are copied again.

    Raises:
        Refusal: `conflict`, where a module that a changing script needs was edited, or the folder is somebody else's.
    """
    state = inspect_folder(folder)
    record = state.record or Record()
    ours = folder / FOLDER_NAME
    fresh: dict[str, ScriptEntry] = {}
    moving: dict[str, ScriptEntry] = {}
    files = _distinct(files)
    for file in files:
        old = current_entry(record, file.name, file.source.raw)
        _check_original(file.source, file.entry, old)
        fresh[file.name] = replace(file.entry, previous=None)
        moving[file.name] = replace(file.entry, previous=old if file.source.raw != file.patched else None)
    others = {name: replace(entry, previous=None) for name, entry in record.scripts.items() if name not in fresh}

    templates = template_names()
    changing = {file.name: file.entry for file in files if file.source.raw != file.patched}
    _refuse_edited(state, _closed(_modules_of(changing), templates))
    kept = _closed(_modules_of({**others, **fresh}), templates)
    writes = _module_writes(state, ours, kept & templates)
    notes, stale, remaining = _leftovers(state, ours, kept)

    hashes = {name: module_hash(change.after or b"") for name, change in writes.items()}
    known = {name: digest for name, digest in record.modules.items() if name in kept | remaining}
    present = {name: module_hash(module.raw) for name, module in state.modules.items() if not module.edited}
    final = {**known, **{name: digest for name, digest in present.items() if name in kept}, **hashes}
    written = [change for change in writes.values() if change.before != change.after]
    steps = [
        dump_record(Record({**record.modules, **final}, {**others, **moving})),
        dump_record(Record(final, {**others, **fresh})),
    ]
    return ChangeSet(
        _without_empty(
            [
                *written,
                FileChange(ours / RECORD_NAME, state.raw_record, steps[0]),
                *(FileChange(_target(file.source.path), file.source.raw, file.patched) for file in files),
                FileChange(ours / RECORD_NAME, steps[0], steps[1]),
                *stale,
            ]
        ),
        tuple(notes),
    )


def _distinct(files: Sequence[FilePatch]) -> list[FilePatch]:
    """Each file once, modules that scripts reach before these: scripts of one call may reach the same module."""
    found: dict[str, FilePatch] = {}
    for file in files:
        other = found.setdefault(file.name, file)
        if other.patched != file.patched:
            message = f"{file.name} would be patched in two ways by the scripts of this call; apply them one by one"
            raise Refusal("conflict", message)
    reached = {name for file in files for name in file.entry.reaches}
    return sorted(found.values(), key=lambda file: file.name not in reached)


def _check_original(source: Source, entry: ScriptEntry, old: ScriptEntry | None) -> None:
    """What is recorded as the original must be unpatched: another run may have come between reading and here."""
    digest = sha256(source.raw)
    is_patched = old is not None and old.patched == digest
    expected = entry.original == (old.original if old and is_patched else digest)
    if (old is None or is_patched) and not expected:
        raise _changed(source.path)


def revert_changes(folder: Path, scripts: Sequence[str], originals: Mapping[str, tuple[Source, bytes]]) -> ChangeSet:
    """The files, a record without them, the modules that nothing uses any more, the record itself.

    `scripts` are the names of those to revert; `originals` hold, by name, what these and the modules that they reach
    are given back. A module that another script reaches stays patched. A file whose bytes are given back unchanged
    loses its entry only.

    Raises:
        Refusal: the folder is somebody else's, or its record cannot be used.
    """
    state = inspect_folder(folder)
    record, ours = state.record, folder / FOLDER_NAME
    kept = reached_by_others(record, scripts)
    back = [
        FileChange(_target(source.path), source.raw, original)
        for name, (source, original) in originals.items()
        if name not in kept
    ]
    if record is None:
        orphans = [] if _is_mentioned(folder) else _leftovers(state, ours, set())[1]
        return ChangeSet(_without_empty([*back, *orphans]))
    gone = {*originals} - kept
    notes: list[str] = []
    others: dict[str, ScriptEntry] = {}
    for name, entry in record.scripts.items():
        if name not in gone and _in_use(folder, name, record, notes):
            others[name] = entry
    used = _closed(_modules_of(others), template_names()) if others else set()
    more, stale, remaining = _leftovers(state, ours, used)
    final = {name: digest for name, digest in record.modules.items() if name in used | remaining}
    steps = [
        dump_record(Record(record.modules, others, record.tool)),
        dump_record(Record(final, others, record.tool)) if others or remaining else None,
    ]
    return ChangeSet(
        _without_empty(
            [
                *back,
                FileChange(ours / RECORD_NAME, state.raw_record, steps[0]),
                *stale,
                FileChange(ours / RECORD_NAME, steps[0], steps[1]),
            ]
        ),
        (*notes, *more),
    )


def reached_by_others(record: Record | None, scripts: Sequence[str]) -> frozenset[str]:
    """The modules that recorded scripts other than these were patched with."""
    entries = record.scripts if record else {}
    return frozenset(module for name, entry in entries.items() if name not in scripts for module in entry.reaches)


def _is_mentioned(folder: Path) -> bool:
    """Whether a script may import from our folder; only asked where no record says so."""
    return any(FOLDER_NAME.encode() in (_bytes_or_none(path) or b"") for path in folder.glob("*.py") if path.is_file())


def _closed(modules: set[str], templates: frozenset[str]) -> set[str]:
    """With all that today's versions import; a module that this version does not know stands for itself."""
    return modules | set(module_closure(modules & templates))


def _modules_of(entries: dict[str, ScriptEntry]) -> set[str]:
    return {module for entry in entries.values() for module in entry.modules}


def _in_use(folder: Path, name: str, record: Record, notes: list[str]) -> bool:
    """Whether a recorded file that was not named is patched, or may come back so."""
    raw = _bytes_or_none(folder / name)
    if raw is None:
        notes.append(f"{FOLDER_NAME}/ is kept for {name}, which is recorded as patched but is not here now")
        return True
    try:
        return current_entry(record, name, raw) is not None
    except Refusal:  # no Python text any more: nobody can tell
        return True


def _refuse_edited(state: FolderState, required: set[str]) -> None:
    edited = sorted(name for name in required if name in state.modules and state.modules[name].edited)
    if edited:
        names = ", ".join(f"{FOLDER_NAME}/{name}" for name in edited)
        raise Refusal(
            "conflict",
            f"{names} was edited since it was copied and would be overwritten; "
            "move your version elsewhere (or delete it) and run again",
        )


def _module_writes(state: FolderState, ours: Path, names: set[str]) -> dict[str, FileChange]:
    """The modules as they should be; a copy whose line ends git converted is left as it is."""
    writes: dict[str, FileChange] = {}
    for name in sorted(names):
        module = state.modules.get(name)
        if module is not None and module.edited:
            continue
        template = template_bytes(name)
        before = module.raw if module else None
        equal = before is not None and module_hash(before) == module_hash(template)
        writes[name] = FileChange(ours / name, before, before if equal else template)
    return writes


def _leftovers(state: FolderState, ours: Path, kept: set[str]) -> tuple[list[str], list[FileChange], set[str]]:
    """Notes, the removal of modules that are not needed any more, and the names of edited ones, which stay."""
    notes: list[str] = []
    stale: list[FileChange] = []
    remaining: set[str] = set()
    for name, module in sorted(state.modules.items()):
        if name in kept:
            continue
        if module.edited:
            remaining.add(name)
            notes.append(f"{FOLDER_NAME}/{name} was edited since it was copied, so it is kept; delete it if you wish")
        else:
            stale.append(FileChange(ours / name, module.raw, None))
    return notes, stale, remaining


def _without_empty(changes: list[FileChange]) -> tuple[FileChange, ...]:
    return tuple(change for change in changes if change.before != change.after)


def _bytes_or_none(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None


def _target(path: Path) -> Path:
    """Where a symlink leads: the link itself stays."""
    return path.resolve()


# Doing it


def write_changes(changes: Sequence[FileChange]) -> None:
    """Write all changes in their order, each file atomically; on any failure undo those already written.

    Every new content lies on the disk beside its file before the first file is replaced, so that a full disk
    or a folder without permission is met while nothing has happened yet.

    Raises:
        Refusal: `unwritable`, with everything as it was before.
    """
    wanted = _without_empty([replace(change, path=_target(change.path)) for change in changes])
    if not wanted:
        return
    run = _Run()
    try:
        with _locked({_home_of(change.path) for change in wanted}):
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
    with contextlib.suppress(OSError, Refusal), _locked({folder.resolve()}):
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
                if change.before != change.after and _bytes_or_none(change.path) == change.after:
                    back = FileChange(change.path, change.after, change.before)
                    temporary = None if change.before is None else self._temporary(change.path, change.before)
                    _replace(back, temporary)
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
        _replace(change, temporary)

    def _make_folder(self, folder: Path) -> None:
        if not folder.is_dir():
            self._made.append(folder)
            folder.mkdir()

    def _temporary(self, target: Path, content: bytes) -> Path:
        number = next(_NUMBERS)
        path = target.parent / f"{TEMPORARY_PREFIX}{os.getpid()}-{number}{TEMPORARY_SUFFIX}"
        self._temporaries.append(path)
        _write_temporary(path, target, content)
        return path

    def _discard_temporaries(self) -> None:
        for path in self._temporaries:
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)


_NUMBERS = itertools.count()


def _check_unchanged(change: FileChange) -> None:
    if _bytes_or_none(change.path) != change.before:
        raise _changed(change.path)


def _changed(path: Path) -> Refusal:
    return Refusal("unwritable", f"{path} changed while energy-patch was running; nothing was changed by it, run again")


def _write_temporary(path: Path, target: Path, content: bytes) -> None:
    """The content, on the disk, with the mode and where possible the owner of the file that it will replace."""
    kept = _kept_status(target)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666)
    try:
        view = memoryview(content)
        while view:
            view = view[os.write(descriptor, view) :]
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    if kept is not None:
        _keep_owner(path, kept)
        path.chmod(stat.S_IMODE(kept.st_mode))


def _kept_status(target: Path) -> os.stat_result | None:
    try:
        status = target.stat()
    except FileNotFoundError:
        return None
    if not stat.S_ISREG(status.st_mode):
        raise Refusal("unwritable", f"{target} is not a regular file; nothing was changed")
    if not os.access(target, os.W_OK):
        raise Refusal("unwritable", f"{target} is read-only; make it writable and run again")
    return status


def _keep_owner(path: Path, kept: os.stat_result) -> None:
    if sys.platform == "win32":
        return
    status = path.stat()
    if (status.st_uid, status.st_gid) != (kept.st_uid, kept.st_gid):
        with contextlib.suppress(OSError):
            os.chown(path, -1, kept.st_gid)
        with contextlib.suppress(OSError):
            os.chown(path, kept.st_uid, -1)


def _replace(change: FileChange, temporary: Path | None) -> None:
    if temporary is None:
        change.path.unlink()
    else:
        temporary.replace(change.path)
    _flush_folder(change.path.parent)


def _flush_folder(folder: Path) -> None:
    """Make the new name last through a power cut, where the system can."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


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


@contextlib.contextmanager
def exclusive(paths: Iterable[Path]) -> Iterator[None]:
    """Keep other runs away from the folders of these scripts, from reading them to the last write.

    The lock lies on the folder itself, so no file is left behind, and a killed run gives it back. Where the system
    has no such lock, files that change between reading and writing are still noticed.

    Raises:
        Refusal: `unwritable`, where another run does not end.
    """
    with _locked({script_home(path)[0] for path in paths}):
        yield


_HELD: set[Path] = set()
PATIENCE = 5.0  # seconds


@contextlib.contextmanager
def _locked(folders: set[Path]) -> Iterator[None]:
    """Lock what this process has not locked yet. Under a lock any temporary file is a killed run's."""
    with contextlib.ExitStack() as stack:
        for folder in sorted(folders - _HELD):
            if folder.is_dir() and _lock(folder, stack):
                stack.callback(_HELD.discard, folder)
                _HELD.add(folder)
                for place in (folder, folder / FOLDER_NAME):
                    for path in place.glob(f"{TEMPORARY_PREFIX}*{TEMPORARY_SUFFIX}"):
                        path.unlink()
        yield


def _home_of(path: Path) -> Path:
    """The folder of the scripts that a changed file belongs to."""
    return path.parent.parent if path.parent.name == FOLDER_NAME else path.parent


def _lock(folder: Path, stack: contextlib.ExitStack) -> bool:
    if sys.platform == "win32":
        return False
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:
        return False
    stack.callback(_close, descriptor)
    until = time.monotonic() + PATIENCE
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > until:
                message = f"another energy-patch is at work in {folder}; run again when it is done"
                raise Refusal("unwritable", message) from None
            time.sleep(0.02)
        except OSError:
            return False
        else:
            return True


def _close(descriptor: int) -> None:
    """All is done by then: that a lock could not be given back properly is no failure."""
    with contextlib.suppress(OSError):
        os.close(descriptor)


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

"""What a run will do to the files, as a list that is previewed and written alike, all of it or none."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from energy_patch.files.folder import (
    FolderState,
    inspect_folder,
)
from energy_patch.files.templates import module_closure, template_bytes, template_names
from energy_patch.record.codec import dump_record
from energy_patch.record.schema import RECORD_NAME, Record, ScriptEntry, module_hash, sha256
from energy_patch.refusal import Refusal
from energy_patch.strategies.base import FOLDER_NAME
from energy_patch.syntax.source import Source
from energy_patch.unpatch.current import current_entry

if sys.platform != "win32":
    pass
from energy_patch.files.transaction import (
    ChangeSet,
    FileChange,
    bytes_or_none,
    changed_meanwhile,
    target,
    without_empty,
)


@dataclass(frozen=True)
class FilePatch:
    """One file as it is now, by its path below the folder of the record, and as it will be, with its entry."""

    name: str
    source: Source
    patched: bytes
    entry: ScriptEntry


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
        without_empty(
            [
                *written,
                FileChange(ours / RECORD_NAME, state.raw_record, steps[0]),
                *(FileChange(target(file.source.path), file.source.raw, file.patched) for file in files),
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
        raise changed_meanwhile(source.path)


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
        FileChange(target(source.path), source.raw, original)
        for name, (source, original) in originals.items()
        if name not in kept
    ]
    if record is None:
        orphans = [] if _is_mentioned(folder) else _leftovers(state, ours, set())[1]
        return ChangeSet(without_empty([*back, *orphans]))
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
        without_empty(
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
    return any(FOLDER_NAME.encode() in (bytes_or_none(path) or b"") for path in folder.glob("*.py") if path.is_file())


def _closed(modules: set[str], templates: frozenset[str]) -> set[str]:
    """With all that today's versions import; a module that this version does not know stands for itself."""
    return modules | set(module_closure(modules & templates))


def _modules_of(entries: dict[str, ScriptEntry]) -> set[str]:
    return {module for entry in entries.values() for module in entry.modules}


def _in_use(folder: Path, name: str, record: Record, notes: list[str]) -> bool:
    """Whether a recorded file that was not named is patched, or may come back so."""
    raw = bytes_or_none(folder / name)
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

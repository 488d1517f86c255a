"""What a run will do to the files, as a list that is previewed and written alike, all of it or none."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from energy_patch.files.folder import inspect_folder, refuse_namesake
from energy_patch.files.modules import leftovers, module_writes, modules_of, refuse_edited
from energy_patch.files.present import imports_ours, python_files
from energy_patch.files.templates import template_names
from energy_patch.files.transaction import (
    ChangeSet,
    FileChange,
    bytes_or_none,
    changed_meanwhile,
    target,
    without_empty,
)
from energy_patch.record.codec import dump_record
from energy_patch.record.schema import RECORD_NAME, Record, ScriptEntry, module_hash, sha256
from energy_patch.refusal import Refusal
from energy_patch.strategies.base import FOLDER_NAME
from energy_patch.syntax.source import Source
from energy_patch.unpatch.current import current_entry


@dataclass(frozen=True)
class FilePatch:
    """One file as it is now, by its path below the folder of the record, and as it will be, with its entry."""

    name: str
    source: Source
    patched: bytes
    entry: ScriptEntry


class Original(NamedTuple):
    """A file as it is now, and the bytes that it is given back."""

    source: Source
    raw: bytes


def apply_changes(folder: Path, files: Sequence[FilePatch]) -> ChangeSet:
    """Modules, a record that knows each script old and new, the scripts, the final record, stale modules.

    A script whose bytes stay as they are keeps its entry; modules that it lost are copied again.

    Raises:
        Refusal: `conflict`, where a module that a changing script needs was edited, or the folder or a module of that
            name is somebody else's.
    """
    refuse_namesake(folder)
    state = inspect_folder(folder)
    record = state.record or Record()
    ours = folder / FOLDER_NAME
    files = _distinct(files)
    fresh = {file.name: replace(file.entry, previous=None) for file in files}
    moving = {file.name: replace(file.entry, previous=_old(record, file)) for file in files}
    others = {name: replace(entry, previous=None) for name, entry in record.scripts.items() if name not in fresh}

    refuse_edited(state, modules_of(file.entry for file in files if file.source.raw != file.patched))
    needed = modules_of([*others.values(), *fresh.values()])
    strangers = _strangers(folder, record, {file.name: file.patched for file in files}, {*others, *fresh})
    kept = needed | (frozenset(state.modules) if strangers else frozenset())
    writes = module_writes(state, ours, needed & template_names())
    left = leftovers(state, ours, kept)

    hashes = {name: module_hash(change.after or b"") for name, change in writes.items()}
    known = {name: digest for name, digest in record.modules.items() if name in kept | left.edited}
    present = {name: module_hash(module.raw) for name, module in state.modules.items() if not module.edited}
    final = {**known, **{name: digest for name, digest in present.items() if name in kept}, **hashes}
    steps = [
        dump_record(Record({**record.modules, **final}, {**others, **moving})),
        dump_record(Record(final, {**others, **fresh})),
    ]
    changes = [
        *writes.values(),
        FileChange(ours / RECORD_NAME, state.raw_record, steps[0]),
        *(FileChange(target(file.source.path), file.source.raw, file.patched) for file in files),
        FileChange(ours / RECORD_NAME, steps[0], steps[1]),
        *left.removals,
    ]
    return ChangeSet(without_empty(changes), (*left.notes, *_told(strangers)))


def _distinct(files: Sequence[FilePatch]) -> list[FilePatch]:
    """Each file once, modules that scripts reach before these: scripts of one call may reach the same module.

    A module that is named beside a script that reaches it is patched as the script needs it, and stays its own.
    """
    found: dict[str, FilePatch] = {}
    reached = {name for file in files for name in file.entry.reaches}
    for file in sorted(files, key=lambda file: file.entry.by_itself):
        other = found.setdefault(file.name, file)
        if other.patched != file.patched and not file.entry.by_itself:
            message = f"{file.name} would be patched in two ways by the scripts of this call; apply them one by one"
            raise Refusal("conflict", message)
        if file.entry.by_itself:
            found[file.name] = replace(other, entry=replace(other.entry, by_itself=True))
    return [found[name] for name in sorted(dict.fromkeys(file.name for file in files), key=lambda n: n not in reached)]


def _old(record: Record, file: FilePatch) -> ScriptEntry | None:
    """The entry that a file's change replaces.

    What is recorded as the original must be unpatched: another run may have come between reading and here.

    Raises:
        Refusal: `unwritable`, where one did.
    """
    source, entry = file.source, file.entry
    old = current_entry(record, file.name, source.raw)
    digest = sha256(source.raw)
    is_patched = old is not None and old.patched == digest
    expected = entry.original == (old.original if old and is_patched else digest)
    if (old is None or is_patched) and not expected:
        raise changed_meanwhile(source.path)
    return old if source.raw != file.patched else None


def revert_changes(folder: Path, scripts: Sequence[str], originals: Mapping[str, Original]) -> ChangeSet:
    """The files, a record without them, the modules that nothing uses any more, the record itself.

    `scripts` are the names of those to revert; `originals` hold, by name, what these and the modules that they reach
    are given back. A module that another script reaches, or that was patched by itself, stays patched. A file whose
    bytes are given back unchanged loses its entry only.

    Raises:
        Refusal: the folder is somebody else's, or its record cannot be used.
    """
    state = inspect_folder(folder)
    record, ours = state.record or Record(), folder / FOLDER_NAME
    gone = {*originals} - staying(record, scripts)
    back = {name: originals[name] for name in originals if name in gone}
    changes = [FileChange(target(each.source.path), each.source.raw, each.raw) for each in back.values()]
    others = {
        name: entry for name, entry in record.scripts.items() if name not in gone and _in_use(folder, name, record)
    }
    strangers = _strangers(folder, record, {name: each.raw for name, each in back.items()}, others)
    if state.record is None:
        orphans = () if strangers else leftovers(state, ours, ()).removals
        return ChangeSet(without_empty([*changes, *orphans]), _told(strangers))
    used = modules_of(others.values()) | (frozenset(state.modules) if strangers else frozenset())
    left = leftovers(state, ours, used)
    final = {name: digest for name, digest in record.modules.items() if name in used | left.edited}
    steps = [
        dump_record(Record(record.modules, others, record.tool)),
        dump_record(Record(final, others, record.tool)) if others or final else None,
    ]
    changes += [
        FileChange(ours / RECORD_NAME, state.raw_record, steps[0]),
        *left.removals,
        FileChange(ours / RECORD_NAME, steps[0], steps[1]),
    ]
    absent = tuple(
        f"{FOLDER_NAME}/ is kept for {name}, which was patched and is not here now; if it is gone for good, delete "
        f"{FOLDER_NAME}/"
        for name in others
        if not (folder / name).exists()
    )
    return ChangeSet(without_empty(changes), (*absent, *left.notes, *_told(strangers)))


def staying(record: Record, scripts: Sequence[str]) -> frozenset[str]:
    """The files that stay patched when these scripts are reverted: others reach them, or they were named by
    themselves."""
    others = {name: entry for name, entry in record.scripts.items() if name not in scripts}
    reached = {module for entry in others.values() for module in entry.reaches}
    return frozenset(reached | {name for name, entry in others.items() if entry.by_itself})


def _strangers(folder: Path, record: Record, after: Mapping[str, bytes], known: Collection[str]) -> list[str]:
    """Files that import our modules, and are not known to be patched, once those of `after` are written."""
    now = {**python_files(folder, record), **after}
    return [name for name, raw in sorted(now.items()) if name not in known and imports_ours(raw)]


def _told(strangers: Iterable[str]) -> tuple[str, ...]:
    return tuple(f"{FOLDER_NAME}/ is kept as it is: {name} imports it" for name in strangers)


def _in_use(folder: Path, name: str, record: Record) -> bool:
    """Whether a recorded file that was not named is patched, or may come back so."""
    raw = bytes_or_none(folder / name)
    if raw is None:
        return True
    try:
        return current_entry(record, name, raw) is not None
    except Refusal:  # no Python text any more: nobody can tell
        return True

"""The record as things stand: scripts that were copied or renamed since are known by what they hold."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from energy_patch.record.codec import is_recordable
from energy_patch.record.schema import Record, ScriptEntry, sha256
from energy_patch.refusal import Refusal
from energy_patch.strategies.base import FOLDER_NAME
from energy_patch.syntax.source import decode_source
from energy_patch.unpatch.undo import is_present

_IMPORT = re.compile(rb"(?:^|[\r\n;:])[ \t]*(?:from|import)[ \t]+\.*(?:\w+\.)*%s\b" % FOLDER_NAME.encode())


class Present(NamedTuple):
    """A record under the names that its scripts have now; `known_by` maps each new name to the recorded one."""

    record: Record
    known_by: Mapping[str, str]


def present_record(folder: Path, record: Record) -> Present:
    """Look for scripts that were copied or renamed since they were recorded.

    A copy has an entry of its own. A renamed script takes its entry along, and scripts that reach it do so under its
    new name.
    """
    gone = frozenset(name for name in record.scripts if not (folder / name).is_file())
    known = {name: entry for name, entry in record.scripts.items() if entry.edits or name in gone}
    found: dict[str, str] = {}
    for name, raw in python_files(folder, record, mentioning=all(map(_imports, known.values()))).items():
        recorded = _recorded_as(name, raw, record, gone)
        if recorded is not None and is_recordable(name):
            found[name] = recorded
    if not found:
        return Present(record, found)
    moved: dict[str, str] = {}
    for name, recorded in found.items():
        if recorded in gone:
            moved.setdefault(recorded, name)
    scripts = {name: entry for name, entry in record.scripts.items() if name not in moved}
    for name, recorded in found.items():
        entry = record.scripts[recorded]
        scripts[name] = entry if moved.get(recorded) == name else replace(entry, by_itself=True)
    return Present(replace(record, scripts={name: _reaching(entry, moved) for name, entry in scripts.items()}), found)


def python_files(folder: Path, record: Record, *, mentioning: bool = True) -> dict[str, bytes]:
    """The Python files beside the recorded ones, by their path below the folder; what cannot be read is left out.

    `mentioning` leaves out those that do not speak of `energy_losses`.
    """
    places = {folder, *((folder / name).parent for name in record.scripts)}
    found: dict[str, bytes] = {}
    for entry in (entry for place in sorted(places) for entry in _listed(place)):
        path = Path(entry.path)
        with contextlib.suppress(OSError):
            status = entry.stat()
            if not mentioning or _mentions(path, status.st_mtime_ns, status.st_size, status.st_ino):
                found[path.relative_to(folder).as_posix()] = path.read_bytes()
    return found


@lru_cache(maxsize=10_000)
def _mentions(path: Path, changed: int, size: int, inode: int) -> bool:
    """Whether a file speaks of our folder; a large folder is read once, however many of its scripts are looked at."""
    return FOLDER_NAME.encode() in path.read_bytes()


def imports_ours(raw: bytes) -> bool:
    """Whether a script imports from `energy_losses/`."""
    return _IMPORT.search(raw) is not None


def _listed(place: Path) -> list[os.DirEntry[str]]:
    """The Python files of a folder; a link is no copy."""
    with contextlib.suppress(OSError), os.scandir(place) as entries:
        files = (entry for entry in entries if entry.name.endswith(".py") and entry.is_file(follow_symlinks=False))
        return sorted(files, key=lambda entry: entry.name)
    return []


def _recorded_as(name: str, raw: bytes, record: Record, gone: frozenset[str]) -> str | None:
    """The name under which a file that is patched, and not recorded by its own name, is recorded.

    A script that was patched without an edit of its own, since only modules that it imports call the loss, has nothing
    by which a copy could be told from the original.
    """
    digest = sha256(raw)
    own = record.scripts.get(name)
    if own is not None and digest in _digests(own):
        return None
    others = {each: entry for each, entry in record.scripts.items() if each != name and (entry.edits or each in gone)}
    for each in sorted(others, key=lambda each: (each not in gone, each)):
        if others[each].patched == digest:
            return each
    if own is not None or not imports_ours(raw):
        return None
    try:
        source = decode_source(Path(name), raw)
    except Refusal:
        return None
    return next((each for each, entry in sorted(others.items()) if entry.edits and is_present(source, entry)), None)


def _imports(entry: ScriptEntry) -> bool:
    """Whether a patched script can be told by its import of our modules."""
    return any(FOLDER_NAME in region.after for region in entry.edits)


def _digests(entry: ScriptEntry) -> set[str]:
    entries = [entry, *([entry.previous] if entry.previous else [])]
    return {digest for each in entries for digest in (each.original, each.patched)}


def _reaching(entry: ScriptEntry, moved: Mapping[str, str]) -> ScriptEntry:
    return replace(entry, reaches=tuple(moved.get(name, name) for name in entry.reaches))

"""Which entry of the record a file is patched by, if any."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from energy_patch.record.schema import Record, ScriptEntry, sha256
from energy_patch.syntax.source import decode_source
from energy_patch.unpatch.undo import is_present, leaves_traces


def current_entry(record: Record | None, name: str, raw: bytes) -> ScriptEntry | None:
    """The entry that a script's bytes are patched by; None where they are not patched.

    A script that was edited since belongs to the newest entry whose regions can be found; if none can be
    found, but some of its names are still there, to the newest of all, and `undo` will say what is missing.
    """
    entry = record.scripts.get(name) if record else None
    if entry is None:
        return None
    known = [entry, *([entry.previous] if entry.previous else [])]
    digest = sha256(raw)
    for candidate in known:
        if candidate.patched == digest:
            return replace(candidate, previous=None)
    if not entry.edits:
        return replace(entry, previous=None)  # only modules that the script imports are patched
    if any(candidate.original == digest for candidate in known):
        return None
    source = decode_source(Path(name), raw)
    for candidate in known:
        if is_present(source, candidate):
            return replace(candidate, previous=None)
    if any(leaves_traces(source, candidate) for candidate in known):
        return replace(entry, previous=None)
    return None

"""revert: take the patch out of scripts, keep every other edit, and clear away what nothing uses any more."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from energy_patch.changes import ChangeSet, FileChange, revert_changes
from energy_patch.outcome import Outcome, OutcomeName, Report, reported, script_diff
from energy_patch.record import check_record_is_there, current_entry, inspect_folder, script_home
from energy_patch.source import Source, read_source
from energy_patch.together import settle
from energy_patch.undo import undo


@dataclass(frozen=True)
class _Prepared:
    """One script: what it holds now, and what to give back (None where it is not patched)."""

    path: Path
    source: Source
    original: bytes | None = None
    notes: tuple[str, ...] = ()


def revert(paths: Sequence[Path], *, write: bool, cwd: Path) -> Report:
    """Revert scripts, all or none; with `write=False` only say what would change."""
    done = settle(paths, _prepare, _decide, write=write)
    name: OutcomeName = "reverted" if write else "would-change"
    return reported(paths, done, lambda item, changes: _outcome(item, name, changes, cwd), cwd)


def _decide(folder: Path, scripts: Sequence[_Prepared]) -> ChangeSet:
    return revert_changes(folder, [(item.source, item.original or item.source.raw) for item in scripts])


def _outcome(item: _Prepared, name: OutcomeName, changes: Sequence[FileChange], cwd: Path) -> Outcome:
    if item.original is None:
        return Outcome(item.path, "not-applied")
    return Outcome(item.path, name, notes=item.notes, diff=script_diff(item.path, changes, cwd))


def _prepare(path: Path) -> _Prepared:
    source = read_source(path)
    folder, name = script_home(path)
    entry = current_entry(inspect_folder(folder).record, name, source.raw)
    if entry is None:
        check_record_is_there(source)
        return _Prepared(path, source)
    undone = undo(source, entry)
    kept = () if undone.exact else ("your edits since apply were kept",)
    return _Prepared(path, source, source.encode(undone.text), (*kept, *undone.notes))

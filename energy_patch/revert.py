"""revert: take the patch out of scripts, keep every other edit, and clear away what nothing uses any more."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from energy_patch.changes import ChangeSet, revert_changes, sweep, write_changes
from energy_patch.diff import unified_diff
from energy_patch.outcome import Outcome, OutcomeName, Report, described_files, refused, script_diff
from energy_patch.record import current_entry, inspect_folder, script_home
from energy_patch.refusal import Refusal
from energy_patch.source import Source, read_source
from energy_patch.undo import undo


def revert(paths: Sequence[Path], *, write: bool, cwd: Path) -> Report:
    """Revert scripts, all or none; with `write=False` only say what would change."""
    prepared: list[tuple[Path, Source, bytes | None, tuple[str, ...]]] = []
    for path in dict.fromkeys(paths):
        try:
            prepared.append((path, *_prepare(path)))
        except Refusal as refusal:
            return refused(paths, path, refusal)
    sets: list[ChangeSet] = []
    for folder in dict.fromkeys(script_home(path)[0] for path, *_ in prepared):
        inside = [item for item in prepared if script_home(item[0])[0] == folder]
        try:
            sets.append(revert_changes(folder, [(source, raw or source.raw) for _, source, raw, _ in inside]))
        except Refusal as refusal:
            return refused(paths, inside[0][0], refusal)
        if write:
            sweep(folder)
    changes = [change for found in sets for change in found.changes]
    if write:
        try:
            write_changes(changes)
        except Refusal as refusal:
            return refused(paths, prepared[0][0], refusal)
    done: OutcomeName = "reverted" if write else "would-change"
    return Report(
        outcomes=tuple(
            Outcome(path, done, notes=notes, diff=script_diff(path, changes, cwd))
            if raw is not None
            else Outcome(path, "not-applied")
            for path, _, raw, notes in prepared
        ),
        files=described_files(changes, cwd),
        notes=tuple(note for found in sets for note in found.notes),
        full_diff=unified_diff(changes, cwd, True),
    )


def _prepare(path: Path) -> tuple[Source, bytes | None, tuple[str, ...]]:
    """The script now, the bytes to give back (None where it is not patched), and notes for a person."""
    source = read_source(path)
    folder, name = script_home(path)
    entry = current_entry(inspect_folder(folder).record, name, source.raw)
    if entry is None:
        return source, None, ()
    undone = undo(source, entry)
    kept = () if undone.exact else ("your edits since apply were kept",)
    return source, source.encode(undone.text), (*kept, *undone.notes)

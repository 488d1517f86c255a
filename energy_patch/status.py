"""status: what each script is, without changing or parsing it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from energy_patch.outcome import Outcome, Report, described
from energy_patch.record import check_record_is_there, current_entry, inspect_folder, script_home
from energy_patch.refusal import Refusal
from energy_patch.source import read_source
from energy_patch.undo import undo


def status(paths: Sequence[Path]) -> Report:
    """Each script: already-applied (as recorded or edited elsewhere), not-applied, or drifted."""
    return Report(tuple(_status(path) for path in dict.fromkeys(paths)))


def _status(path: Path) -> Outcome:
    try:
        source = read_source(path)
        folder, name = script_home(path)
        state = inspect_folder(folder)
        entry = current_entry(state.record, name, source.raw)
    except Refusal as refusal:
        return Outcome(path, "refused", refusal.reason, refusal.message, refusal.line)
    if entry is None:
        try:
            check_record_is_there(source)
        except Refusal as refusal:
            return Outcome(path, "drifted", refusal.reason, refusal.message, refusal.line)
        return Outcome(path, "not-applied")
    edits = tuple((edit.line, edit.title) for edit in entry.edits)
    edited = tuple(f"{name} was edited since it was copied" for name, module in state.modules.items() if module.edited)
    try:
        undone = undo(source, entry)
    except Refusal as refusal:
        return Outcome(path, "drifted", refusal.reason, refusal.message, refusal.line, notes=edited)
    since = () if undone.exact else ("the script was edited since apply; the patch in it is intact",)
    return Outcome(
        path, "already-applied", message=described(entry), edits=edits, notes=(*since, *undone.notes, *edited)
    )

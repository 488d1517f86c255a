"""revert: take the patch out of scripts, keep every other edit, and clear away what nothing uses any more."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from energy_patch.commands.batch import reported, settle
from energy_patch.files.changes import reached_by_others, revert_changes
from energy_patch.files.folder import check_record_is_there, inspect_folder
from energy_patch.files.home import PatchedFile, home_of, refuse_reached
from energy_patch.files.transaction import ChangeSet, FileChange
from energy_patch.report.outcome import ModuleOutcome, Outcome, OutcomeName, Report, script_diff


@dataclass(frozen=True)
class _Prepared:
    """One script with the modules it was patched with: what each holds now, and what to give back."""

    path: Path
    files: tuple[PatchedFile, ...]
    originals: tuple[bytes, ...]
    notes: tuple[str, ...] = ()


def revert(paths: Sequence[Path], *, write: bool, cwd: Path) -> Report:
    """Revert scripts, all or none; with `write=False` only say what would change."""
    done = settle(paths, _prepare, _decide, write=write)
    name: OutcomeName = "reverted" if write else "would-change"
    return reported("revert", paths, done, lambda item, changes: _outcome(item, name, changes, cwd), cwd)


def _decide(folder: Path, scripts: Sequence[_Prepared]) -> ChangeSet:
    names = [item.files[0].name for item in scripts]
    kept = reached_by_others(inspect_folder(folder).record, names)
    originals = {
        file.name: (file.source, original)
        for item in scripts
        for file, original in zip(item.files, item.originals, strict=True)
    }
    found = revert_changes(folder, names, originals)
    notes = [f"{name} stays patched: another script is patched with it" for name in originals if name in kept]
    return ChangeSet(found.changes, (*found.notes, *notes))


def _outcome(item: _Prepared, name: OutcomeName, changes: Sequence[FileChange], cwd: Path) -> Outcome:
    script, *modules = item.files
    if script.entry is None:
        return Outcome(item.path, "not-applied")
    changed = {change.path for change in changes}
    return Outcome(
        item.path,
        name,
        strategy=script.entry.strategy,
        options=script.entry.options,
        notes=item.notes,
        diff=script_diff(item.path, changes, cwd),
        modules=tuple(
            ModuleOutcome(file.name, (), script_diff(file.source.path, changes, cwd))
            for file in modules
            if file.source.path.resolve() in changed
        ),
    )


def _prepare(path: Path) -> _Prepared:
    refuse_reached(path)
    files = home_of(path).files(path)
    if files[0].entry is None:
        check_record_is_there(files[0].source)
    undone = [file.undone for file in files if file.undone is not None]
    kept = () if all(item.exact for item in undone) else ("your edits since apply were kept",)
    tuned = (item for each in undone for item in each.held if item.is_tuned)
    notes = (f"{item.name} = {item.value}, which you had set, is gone" for item in tuned)
    return _Prepared(path, files, tuple(file.original.raw for file in files), (*kept, *notes))

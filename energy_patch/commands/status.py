"""status: what each script is, without changing or parsing it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from energy_patch import __version__
from energy_patch.commands.scripts import Scripts, named_scripts
from energy_patch.files.folder import FolderState, check_record_is_there
from energy_patch.files.home import PatchedFile, home_of, patched_with
from energy_patch.record.schema import described
from energy_patch.refusal import Refusal
from energy_patch.report.outcome import ModuleOutcome, Outcome, Report, listed_edits, refused_outcome
from energy_patch.strategies.base import FOLDER_NAME
from energy_patch.unpatch.undo import Undone

AGAIN = "run apply again, or revert"


def status(paths: Sequence[Path]) -> Report:
    """Each script: already-applied (as recorded or edited elsewhere), not-applied, or patch-modified."""
    named = named_scripts(paths, FOLDER_NAME)
    return Report("status", tuple(_status(path, named) for path in named.paths))


def _status(path: Path, named: Scripts) -> Outcome:
    try:
        if (script := patched_with(path)) is not None:
            return Outcome(path, "already-applied", message=f"together with {script}, which imports it")
        home = home_of(path)
        first, *modules = home.files(path)
    except Refusal as refusal:
        if named.passes(path, refusal):
            return Outcome(path, "not-applied", refusal.reason, refusal.message, refusal.line)
        return refused_outcome(path, refusal)
    if first.entry is None:
        try:
            check_record_is_there(first.source)
        except Refusal as refusal:
            return refused_outcome(path, refusal, "patch-modified")
        return Outcome(path, "not-applied", is_bystander=named.are_many)
    edited = _about_modules(home.state)
    try:
        undone = [_undone(file) for file in (first, *modules)]
        if missing := home.missing(path):
            raise Refusal("patch-modified", f"{missing[0]}, which is patched with it, is not there any more; {AGAIN}")
    except Refusal as refusal:
        return replace(
            refused_outcome(path, refusal, "patch-modified"),
            strategy=first.entry.strategy,
            options=first.entry.options,
            notes=edited,
        )
    is_exact = all(item.exact for item in undone)
    since = () if is_exact else ("the script was edited since apply; the patch in it is intact",)
    return Outcome(
        path,
        "already-applied",
        message=described(first.entry),
        strategy=first.entry.strategy,
        options=first.entry.options,
        edits=listed_edits(first.entry, first.undone),
        notes=(*home.origin(path), *since, *(note for item in undone for note in item.notes), *edited),
        modules=tuple(
            ModuleOutcome(file.name, listed_edits(file.entry, file.undone)) for file in modules if file.entry
        ),
    )


def _about_modules(state: FolderState) -> tuple[str, ...]:
    """Notes on the modules that are not those of this version of the tool."""
    edited = [name for name, module in state.modules.items() if module.edited]
    outdated = [name for name, module in state.modules.items() if module.outdated]
    notes = [f"{FOLDER_NAME}/{name} was edited since it was copied" for name in edited]
    if outdated:
        notes.append(
            f"older than energy-patch {__version__}: {', '.join(outdated)} in {FOLDER_NAME}/; run apply again to "
            "update them"
        )
    return tuple(notes)


def _undone(file: PatchedFile) -> Undone:
    """What taking a file's patch out would give. Raises `Refusal` where it is not intact."""
    if file.undone is None:
        message = f"{file.name}, which the script imports, is not patched any more; {AGAIN}"
        raise Refusal("patch-modified", message)
    return file.undone

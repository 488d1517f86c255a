"""revert: take the patch out of scripts, keep every other edit, and clear away what nothing uses any more."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from energy_patch.commands.batch import settle
from energy_patch.commands.reported import reported
from energy_patch.commands.scripts import named_scripts
from energy_patch.files.changes import Original, revert_changes, staying
from energy_patch.files.folder import check_record_is_there
from energy_patch.files.home import Home, PatchedFile, home_of, refuse_reached
from energy_patch.files.transaction import ChangeSet, FileChange
from energy_patch.locate.written import listed
from energy_patch.report.outcome import ModuleOutcome, Outcome, OutcomeName, Report, script_diff
from energy_patch.strategies.base import FOLDER_NAME


@dataclass(frozen=True)
class _Reverting:
    """One script with the modules that are reverted with it, and what a person should know."""

    path: Path
    files: tuple[PatchedFile, ...]
    notes: tuple[str, ...] = ()


def revert(paths: Sequence[Path], *, write: bool, cwd: Path) -> Report:
    """Revert scripts, all or none; with `write=False` only say what would change."""
    named = named_scripts(paths, FOLDER_NAME)
    together = frozenset(path.resolve() for path in named.paths)
    done = settle(named, lambda path: _prepare(path, together), _decide, write=write)
    name: OutcomeName = "reverted" if write else "would-change"
    return reported(
        "revert", named, done, lambda item, changes: _outcome(item, name, changes, cwd, named.are_many), cwd
    )


def _decide(folder: Path, scripts: Sequence[_Reverting]) -> ChangeSet:
    originals = {file.name: Original(file.source, file.original.raw) for item in scripts for file in item.files}
    return revert_changes(folder, [item.files[0].name for item in scripts], originals)


def _outcome(item: _Reverting, name: OutcomeName, changes: Sequence[FileChange], cwd: Path, in_folder: bool) -> Outcome:
    script, *modules = item.files
    if script.entry is None:
        return Outcome(item.path, "not-applied", is_bystander=in_folder)
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


def _prepare(path: Path, together: frozenset[Path]) -> _Reverting:
    """Read a script and take the patch out of it and of the modules that nothing else keeps patched.

    Raises:
        Refusal: a patch is not as it was written, its record is lost, or the file is patched through another script.
    """
    refuse_reached(path, together)
    home = home_of(path)
    script, *modules = home.files(path)
    if script.entry is None:
        check_record_is_there(script.source)
    names = [home.name(each) for each in together if each.is_relative_to(home.folder)]
    stay = staying(home.record, names) & {file.name for file in modules}
    files = (script, *(file for file in modules if file.name not in stay))
    return _Reverting(path, files, tuple(_notes(home, path, files, sorted(stay))))


def _notes(home: Home, path: Path, files: Sequence[PatchedFile], stay: Sequence[str]) -> Iterator[str]:
    yield from home.origin(path)
    undone = [file.undone for file in files if file.undone is not None]
    if not all(item.exact for item in undone):
        yield "your edits since apply were kept"
    for item in (held for each in undone for held in each.held if held.is_tuned):
        yield f"{item}, which you had set, is gone"
    for name in stay:
        others = [each for each in home.reaching(name) if each != home.name(path)]
        are = "is" if len(others) == 1 else "are"
        why = f"{listed(others)} {are} patched with it" if others else "it was patched by itself as well; revert it so"
        yield f"{name} stays patched: {why}"
    for name in home.missing(path):
        yield f"{name} is not there any more, so nothing was taken back in it"

"""apply: read every script, plan all of them, and only then write, all or none."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from energy_patch.commands.batch import Stopped, settle
from energy_patch.commands.modules import is_program, modules_of_others
from energy_patch.commands.reported import reported
from energy_patch.commands.request import Request as Request
from energy_patch.commands.request import Wanted, wanted
from energy_patch.commands.scripts import named_scripts
from energy_patch.files.changes import FilePatch, apply_changes
from energy_patch.files.folder import check_record_is_there
from energy_patch.files.home import Home, home_of, refuse_reached
from energy_patch.files.templates import module_closure
from energy_patch.files.transaction import ChangeSet, FileChange
from energy_patch.locate.facts import ORIGINAL_LOSS, Facts
from energy_patch.locate.written import listed
from energy_patch.record.codec import is_recordable
from energy_patch.record.entry import make_entry
from energy_patch.record.schema import ScriptEntry, described
from energy_patch.refusal import NotCalled, PatchedThrough, Refusal
from energy_patch.report.outcome import (
    ModuleOutcome,
    Outcome,
    OutcomeName,
    Report,
    listed_edits,
    script_diff,
)
from energy_patch.rewrite.plan import Plan
from energy_patch.rewrite.planner import make_plan
from energy_patch.rewrite.verify import prove
from energy_patch.strategies.base import FOLDER_NAME


@dataclass(frozen=True)
class _Applying:
    """One script on its way: its files, the script first, and how that came about."""

    path: Path
    files: tuple[FilePatch, ...]
    is_settled: bool
    notes: tuple[str, ...] = ()

    @property
    def entry(self) -> ScriptEntry:
        return self.files[0].entry


def apply(paths: Sequence[Path], request: Request, *, write: bool, check: bool = False, cwd: Path) -> Report:
    """Patch scripts, all or none; without `write` or with `check` only say what would change.

    Raises:
        WrongUse: an option that was given is none of a script's strategy.
    """
    write = write and not check
    named = named_scripts(paths, ORIGINAL_LOSS, is_lenient=check)
    together = frozenset(path.resolve() for path in named.paths)
    modules = modules_of_others(named)

    def prepare(path: Path) -> _Applying:
        if (why := modules.get(path.resolve())) is not None and home_of(path).file(path).entry is None:
            raise NotCalled("not-found", why)
        return _prepare(path, request, together)

    done = settle(named, prepare, _decide, write=write)
    name: OutcomeName = "patched" if write else "would-change"
    report = reported("apply", named, done, lambda item, changes: _outcome(item, name, changes, cwd), cwd)
    after = _after(paths) if report.outcome == "patched" else ()
    outcomes = report.outcomes
    if report.outcome == "not-applied" and not check:  # none of several calls the loss
        outcomes = tuple(replace(item, outcome="refused") for item in outcomes)
    return replace(report, outcomes=outcomes, is_check=check, after=after)


def _after(paths: Sequence[Path]) -> tuple[str, ...]:
    """What to run next, as it can be pasted."""
    return (
        "Next, in the script's folder: torchrun --nproc-per-node 8 -m energy_losses.check MODULE:CLASS, your energy "
        "model's, say energy.energy_model:EnergyModel. If all is ok, start training as before.",
        f"To take it back: energy-patch revert {shlex.join(str(path) for path in paths)}",
    )


def refusal_of(path: Path, strategy: str) -> Refusal | None:
    """Why a script would be refused with a strategy; None where it would be patched."""
    done = settle(
        named_scripts([path], ORIGINAL_LOSS),
        lambda path: _prepare(path, Request(strategy), frozenset()),
        _decide,
        write=False,
    )
    return done.refusal if isinstance(done, Stopped) else None


def _decide(folder: Path, scripts: Sequence[_Applying]) -> ChangeSet:
    found = apply_changes(folder, [file for item in scripts for file in item.files])
    is_settled = all(item.is_settled for item in scripts)
    # A record that would only name this version of the tool is no reason to write.
    only_record = all(change.path.suffix == ".json" for change in found.changes)
    return ChangeSet((), found.notes) if is_settled and only_record else found


def _outcome(item: _Applying, done: OutcomeName, changes: Sequence[FileChange], cwd: Path) -> Outcome:
    if item.is_settled:
        name: OutcomeName = done if changes else "already-applied"
        modules = tuple(ModuleOutcome(file.name) for file in item.files[1:])
        return replace(_patched_as(item.entry, item.path, name), notes=item.notes, modules=modules)
    return replace(
        _patched_as(item.entry, item.path, done),
        edits=listed_edits(item.entry),
        notes=item.notes,
        diff=script_diff(item.path, changes, cwd),
        modules=tuple(
            ModuleOutcome(file.name, listed_edits(file.entry), script_diff(file.source.path, changes, cwd))
            for file in item.files[1:]
        ),
    )


def _patched_as(entry: ScriptEntry, path: Path, name: OutcomeName) -> Outcome:
    return Outcome(path, name, message=described(entry), strategy=entry.strategy, options=entry.options)


def _prepare(path: Path, request: Request, together: frozenset[Path]) -> _Applying:
    refuse_reached(path, together)
    home = home_of(path)
    files, missing = home.files(path), home.missing(path)
    entry = files[0].entry
    if entry is None:
        return _fresh(path, home, wanted(request, None), together)
    undone = [file.undone for file in files if file.undone is not None]
    asked = wanted(request, entry, [value for item in undone for value in item.held])
    if asked.is_same and len(undone) == len(files) and not missing:
        patches = [FilePatch(file.name, file.source, file.source.raw, file.entry) for file in files if file.entry]
        notes = dict.fromkeys([*home.origin(path), *(note for item in undone for note in item.notes)])
        return _Applying(path, tuple(patches), True, tuple(notes))
    return _fresh(path, home, asked, together)


def _fresh(path: Path, home: Home, asked: Wanted, together: frozenset[Path]) -> _Applying:
    from energy_patch.locate.locator import locate  # LibCST is loaded only where a script is parsed

    try:
        located = locate(home.original(path), home.original)
        plans = [_plan(facts, located, asked, home) for facts in located]
    except Refusal as refusal:
        if refusal.reason == "not-found" and home.state.record is None:
            check_record_is_there(home.file(path).source)
        raise home.as_it_stands(path, refusal) from None
    _refuse_elsewhere(home, path, located[0])
    files = [_file_patch(home, plan, together, is_module=plan is not plans[0]) for plan in plans]
    reaches = tuple(file.name for file in files[1:])
    modules = {module for file in files for module in file.entry.modules}
    entry = replace(files[0].entry, reaches=reaches, modules=tuple(sorted(modules)))
    before = home.record.scripts.get(files[0].name)
    if before is not None and not {*before.reaches} <= {*reaches} and home.file(path).entry is not None:
        message = "the call of the loss has moved to another file since apply; run revert first, then apply"
        raise Refusal("conflict", message)
    told = dict.fromkeys([*home.origin(path), *asked.notes, *plans[0].notes])
    for file, plan in zip(files[1:], plans[1:], strict=True):
        told |= dict.fromkeys(f"{file.name}: {note}" for note in plan.notes if note not in told)
    return _Applying(path, (replace(files[0], entry=entry), *files[1:]), False, tuple(told))


def _refuse_elsewhere(home: Home, path: Path, facts: Facts) -> None:
    """Refuse a module that a script in a folder above imports: beside the module nobody would find `energy_losses/`.

    Raises:
        PatchedThrough: there is one.
    """
    from energy_patch.locate.reached import importer_above

    if home.file(path).entry is not None or is_program(facts.source):
        return
    if not facts.calls or facts.package != FOLDER_NAME:
        return
    script = importer_above(path)
    if script is not None:
        shown = os.path.relpath(script)
        message = (
            f"is imported by {shown}, and where that is started {FOLDER_NAME}/ must lie beside it, not here; name the "
            f"script that you start: energy-patch apply {shlex.quote(shown)}"
        )
        raise PatchedThrough(message, script)


def _plan(facts: Facts, run: Sequence[Facts], asked: Wanted, home: Home) -> Plan:
    """The plan of one file; a refusal says which module it speaks of."""
    try:
        return make_plan(
            facts, asked.strategy, asked.choice, asked.recorded, replicates=asked.synchronize, logs=asked.logs, run=run
        )
    except Refusal as refusal:
        raise (refusal.about(home.name(facts.source.path)) if facts.is_reached else refusal) from None


def _file_patch(home: Home, plan: Plan, together: frozenset[Path], *, is_module: bool) -> FilePatch:
    """A file's patch; a module that is patched for another script, or by itself, stays so if the patch is the same."""
    patched = prove(plan)
    now = home.file(plan.source.path)
    if not is_recordable(now.name):
        message = "its name is not UTF-8, so the record of the patch cannot hold it; rename the file and run again"
        raise Refusal("unsupported", message)
    by_itself = not is_module or (now.entry is not None and now.entry.by_itself)
    entry = replace(make_entry(plan, patched, module_closure(plan.modules)), by_itself=by_itself)
    others = [f"for {name}" for name in home.reaching(now.name) if home.folder / name not in together]
    if is_module and by_itself and home.folder / now.name not in together:
        others.append("by itself")
    if now.entry is None or not others:
        return FilePatch(now.name, now.source, patched, entry)
    if (now.entry.strategy, now.entry.options) != (entry.strategy, entry.options):
        message = (
            f"{now.name} is patched {listed(others)} too, with {described(now.entry)}; name these files in the same "
            "command, or take the same strategy and options"
        )
        raise Refusal("conflict", message)
    return FilePatch(now.name, now.source, now.source.raw, now.entry)

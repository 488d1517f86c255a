"""apply: read every script, plan all of them, and only then write, all or none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from energy_patch.changes import ChangeSet, FileChange, apply_changes
from energy_patch.outcome import Outcome, OutcomeName, Report, described, reported, script_diff
from energy_patch.plan import Plan, make_plan, prove
from energy_patch.record import ScriptEntry, current_entry, inspect_folder, make_entry, script_home
from energy_patch.source import Source, decode_source, read_source
from energy_patch.strategies import DEFAULT, strategies
from energy_patch.strategy import Value
from energy_patch.together import settle
from energy_patch.undo import undo


@dataclass(frozen=True)
class Request:
    """What the user asked for; `given` holds the strategy's options that were on the command line, by name."""

    strategy: str | None = None
    given: dict[str, Value] = field(default_factory=dict)
    synchronise: bool = True

    @property
    def is_bare(self) -> bool:
        """No option at all: on a patched script, whatever it was patched with is what is wanted."""
        return self == Request()

    @property
    def recorded(self) -> dict[str, Value]:
        """The options as the record keeps them."""
        options = dict(self.given)
        if not self.synchronise:
            options["no_sync"] = 1
        return options


@dataclass(frozen=True)
class _Prepared:
    """One script on its way: what it holds now, what it will hold, and how that came about."""

    path: Path
    source: Source
    patched: bytes
    entry: ScriptEntry
    plan: Plan | None
    notes: tuple[str, ...] = ()


def apply(paths: Sequence[Path], request: Request, *, write: bool, cwd: Path) -> Report:
    """Patch scripts, all or none; with `write=False` only say what would change."""
    done = settle(paths, lambda path: _prepare(path, request), _decide, write=write)
    name: OutcomeName = "patched" if write else "would-change"
    return reported(paths, done, lambda item, changes: _outcome(item, name, changes, cwd), cwd)


def _decide(folder: Path, scripts: Sequence[_Prepared]) -> ChangeSet:
    found = apply_changes(folder, [(item.source, item.patched, item.entry) for item in scripts])
    is_settled = all(item.plan is None for item in scripts)
    # A record that would only name this version of the tool is no reason to write.
    only_record = all(change.path.suffix == ".json" for change in found.changes)
    return ChangeSet((), found.notes) if is_settled and only_record else found


def _outcome(item: _Prepared, done: OutcomeName, changes: Sequence[FileChange], cwd: Path) -> Outcome:
    if item.plan is None:
        name: OutcomeName = done if changes else "already-applied"
        return Outcome(item.path, name, message=described(item.entry), notes=item.notes)
    return Outcome(
        item.path,
        done,
        message=described(item.entry),
        edits=tuple((edit.line, edit.title) for edit in item.entry.edits),
        notes=(*item.notes, *item.plan.notes),
        diff=script_diff(item.path, changes, cwd),
    )


def _prepare(path: Path, request: Request) -> _Prepared:
    source = read_source(path)
    folder, name = script_home(path)
    entry = current_entry(inspect_folder(folder).record, name, source.raw)
    if entry is None:
        return _fresh(path, source, source, request, ())
    undone = undo(source, entry)
    is_same = (request.strategy or DEFAULT, request.recorded) == (entry.strategy, dict(entry.options))
    if request.is_bare or is_same:
        return _Prepared(path, source, source.raw, entry, None, undone.notes)
    original = decode_source(source.path, source.encode(undone.text))
    return _fresh(path, source, original, request, (f"switched from strategy {entry.strategy}", *undone.notes))


def _fresh(path: Path, source: Source, original: Source, request: Request, notes: tuple[str, ...]) -> _Prepared:
    from energy_patch.locate import locate  # LibCST is loaded only where a script is parsed

    strategy = strategies()[request.strategy or DEFAULT]
    facts = locate(original)
    plan = make_plan(facts, strategy, request.given, request.recorded, synchronise=request.synchronise)
    patched = prove(plan)
    return _Prepared(path, source, patched, make_entry(plan, patched), plan, notes)

"""diagnose: what is wrong with a script before anything is patched, in numbers and findings; nothing is run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from energy_patch.diagnose.advice import Recommendation, RefusalOf, recommend
from energy_patch.diagnose.check import Finding
from energy_patch.diagnose.checks import doubts, find_all
from energy_patch.diagnose.lines import AllLines, Lines
from energy_patch.diagnose.numbers import USUAL_BATCH, Actions, Row, actions_of, batch_size, rows
from energy_patch.diagnose.sharing import sharing
from energy_patch.diagnose.sightings import sightings
from energy_patch.diagnose.study import Patch, Place, Study
from energy_patch.files.home import Home, PatchedFile, home_of, patched_with
from energy_patch.locate.facts import ORIGINAL_LOSS
from energy_patch.locate.near_misses import near_misses
from energy_patch.record.schema import ScriptEntry, described
from energy_patch.refusal import Reason, Refusal
from energy_patch.strategies.base import Strategy, Value
from energy_patch.strategies.registry import in_order, strategies
from energy_patch.syntax.source import Source, check_compiles, read_source
from energy_patch.syntax.tree import deep_trees
from energy_patch.unpatch.undo import undo


@dataclass(frozen=True)
class Diagnosis:
    """All that `diagnose` says of one script; with a `reason`, the script could not even be read.

    `unfollowed` are uses of the loss that no call was found for, `doubts` what could not be told of the rest.
    """

    path: Path
    gpus: int
    batch_size: int
    batch_from: str = ""
    reason: Reason | None = None
    message: str = ""
    line: int | None = None
    patched: str = ""
    strategy: str | None = None
    options: Mapping[str, Value] = field(default_factory=dict)
    in_place: tuple[Place, ...] = ()
    notes: tuple[str, ...] = ()
    calls: tuple[Place, ...] = ()
    rows: tuple[Row, ...] = ()
    actions: Actions | None = None
    sharing: str = "unknown"
    findings: tuple[Finding, ...] = ()
    unfollowed: tuple[Place, ...] = ()
    doubts: tuple[Place, ...] = ()
    recommendation: Recommendation | None = None
    order: tuple[Strategy, ...] = ()


def diagnose(path: Path, gpus: int, given_batch: int | None, refusal_of: RefusalOf) -> Diagnosis:
    """Look at one script; whatever is wrong with it becomes part of the answer.

    `refusal_of` says why `apply` would refuse a script with a strategy, so that no such command is recommended.
    """
    start = Diagnosis(path, gpus, given_batch or USUAL_BATCH, order=in_order())
    try:
        source = read_source(path)
        try:
            home = home_of(path)
            files = home.files(path)
        except Refusal as refusal:
            return _look(replace(start, notes=(refusal.message,)), source, source, given_batch, refusal_of)
        if script := patched_with(path):
            start = replace(
                start, notes=(f"is patched together with {script}, which imports it; diagnose that script",)
            )
        if files[0].entry is not None:
            return _look_at_patched(start, home, files, given_batch, refusal_of)
        return _look(start, source, source, given_batch, refusal_of, read=home.original)
    except Refusal as refusal:
        return replace(start, reason=refusal.reason, message=refusal.message, line=refusal.line)


def _look_at_patched(
    start: Diagnosis, home: Home, files: Sequence[PatchedFile], given_batch: int | None, refusal_of: RefusalOf
) -> Diagnosis:
    """Look at the script and its modules as they were before the patch, and give all lines as they are now."""
    source, entry = files[0].source, files[0].entry
    assert entry is not None
    patched = described(entry)
    try:
        undone = [(file, undo(file.source, file.entry)) for file in files if file.entry is not None]
    except Refusal as refusal:
        note = f"patched with {patched}, but not intact: {refusal.message}"
        return _look(replace(start, notes=(note,)), source, source, given_batch, refusal_of)
    originals = {file.name: file.original for file, _ in undone}
    lines = {file.name: Lines(originals[file.name], file.source) for file, _ in undone}
    found = _look(start, originals[files[0].name], source, given_batch, refusal_of, _patch(entry), home.original)
    in_place = [
        Place(
            edit.line if old.exact else lines[file.name].now(originals[file.name].line_of(edit.start)),
            edit.title,
            None if file is files[0] else file.name,
        )
        for file, old in undone
        for edit in (file.entry.edits if file.entry is not None else ())
    ]
    is_exact = all(old.exact for _, old in undone)
    moved = AllLines(start.path, lines)
    return replace(
        found,
        patched=patched,
        strategy=entry.strategy,
        options=entry.options,
        in_place=tuple(in_place),
        notes=(
            *start.notes,
            *(() if is_exact else ("edited since apply; the patch in it is intact",)),
            *(note for _, old in undone for note in old.notes),
        ),
        calls=moved.places(found.calls),
        findings=tuple(moved.finding(item) for item in found.findings),
        unfollowed=moved.places(found.unfollowed),
        doubts=moved.places(found.doubts),
    )


def _patch(entry: ScriptEntry) -> Patch:
    chosen = strategies().get(entry.strategy)
    defaults = {option.name: option.default for option in chosen.options} if chosen is not None else {}
    return Patch(chosen, {**defaults, **entry.options})


def _look(
    start: Diagnosis,
    source: Source,
    as_it_is: Source,
    given_batch: int | None,
    refusal_of: RefusalOf,
    patch: Patch | None = None,
    read: Callable[[Path], Source] = read_source,
) -> Diagnosis:
    check_compiles(source)  # at Python's own recursion limit: what is nested deeper crashes LibCST's parser
    with deep_trees():
        return _looked(start, Study(source, start.gpus, patch, read), as_it_is, given_batch, refusal_of)


def _looked(
    start: Diagnosis, study: Study, as_it_is: Source, given_batch: int | None, refusal_of: RefusalOf
) -> Diagnosis:
    study.batch_size, batch_from = batch_size(study, given_batch)
    shared = sharing(study)
    findings = find_all(study)
    unfollowed = sightings(study)
    actions = actions_of(study) if study.loss else None
    return replace(
        start,
        batch_size=study.batch_size,
        batch_from=batch_from,
        notes=(*start.notes, *_notes(study, bool(unfollowed))),
        calls=tuple(study.place(call, "") for call, _ in study.loss),
        rows=rows(start.gpus, study.batch_size, actions, study.patch) if actions is not None else (),
        actions=actions,
        sharing=shared.state,
        findings=findings,
        unfollowed=unfollowed,
        doubts=doubts(study),
        recommendation=recommend(study, as_it_is, shared, findings, refusal_of),
    )


def _notes(study: Study, is_seen: bool) -> list[str]:
    """Why there is no call to look at."""
    if study.refusal is not None:
        return [study.refusal.message]
    if study.loss:
        return []
    if is_seen:
        return [f"{ORIGINAL_LOSS} is not called where it can be followed; what was seen of it stands below"]
    return [near_misses(study.source)]

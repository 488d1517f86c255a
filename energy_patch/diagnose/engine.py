"""diagnose: what is wrong with a script before anything is patched, in numbers and findings; nothing is run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from energy_patch.diagnose.advice import Recommendation, RefusalOf, recommend
from energy_patch.diagnose.check import Finding
from energy_patch.diagnose.checks import doubts, find_all
from energy_patch.diagnose.numbers import USUAL_BATCH, Actions, Row, actions_of, batch_size, rows
from energy_patch.diagnose.patched import bearing
from energy_patch.diagnose.sharing import sharing
from energy_patch.diagnose.sightings import sightings
from energy_patch.diagnose.study import Place, Study, Subject
from energy_patch.files.home import Home, PatchedFile, home_of, patched_with
from energy_patch.locate.facts import ORIGINAL_LOSS
from energy_patch.locate.near_misses import near_misses
from energy_patch.refusal import Reason, Refusal
from energy_patch.strategies.base import Strategy, Value
from energy_patch.strategies.registry import in_order
from energy_patch.syntax.source import check_compiles, read_source
from energy_patch.syntax.tree import deep_trees


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
    state: str = "not patched"
    is_patched: bool = False
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
            return _look(replace(start, notes=(refusal.message,)), Subject(source, gpus), given_batch, refusal_of)
        if script := patched_with(path):
            start = replace(
                start, notes=(f"is patched together with {script}, which imports it; diagnose that script",)
            )
        if files[0].entry is not None:
            return _look_at_patched(start, home, files, given_batch, refusal_of)
        return _look(start, Subject(source, gpus, read=home.original), given_batch, refusal_of)
    except Refusal as refusal:
        return replace(start, reason=refusal.reason, message=refusal.message, line=refusal.line)


def _look_at_patched(
    start: Diagnosis, home: Home, files: Sequence[PatchedFile], given_batch: int | None, refusal_of: RefusalOf
) -> Diagnosis:
    """Look at the script and its modules as they were before the patch, and give all lines as they are now."""
    found, entry = bearing(files), files[0].entry
    assert entry is not None
    start = replace(
        start,
        state=found.state,
        is_patched=found.patch.is_intact,
        strategy=entry.strategy,
        options=entry.options,
        in_place=found.in_place,
        notes=(*start.notes, *found.notes),
    )
    read = home.original if found.patch.is_intact else read_source
    subject = Subject(found.source, start.gpus, found.patch, read, found.line_now)
    return _look(start, subject, given_batch, refusal_of)


def _look(start: Diagnosis, subject: Subject, given_batch: int | None, refusal_of: RefusalOf) -> Diagnosis:
    check_compiles(subject.source)  # at Python's own recursion limit: what is nested deeper crashes LibCST's parser
    with deep_trees():
        return _looked(start, Study(subject), given_batch, refusal_of)


def _looked(start: Diagnosis, study: Study, given_batch: int | None, refusal_of: RefusalOf) -> Diagnosis:
    study.batch_size, batch_from = batch_size(study, given_batch)
    shared = sharing(study)
    findings = find_all(study)
    unfollowed = sightings(study)
    actions = actions_of(study) if study.loss else None
    return replace(
        start,
        batch_size=study.batch_size,
        batch_from=batch_from,
        notes=(*start.notes, *_notes(study)),
        calls=tuple(study.place(call, "") for call, _ in study.loss),
        rows=rows(start.gpus, study.batch_size, actions, study.patch) if actions is not None else (),
        actions=actions,
        sharing=shared.state,
        findings=findings,
        unfollowed=unfollowed,
        doubts=doubts(study),
        recommendation=recommend(study, shared, findings, refusal_of),
    )


def _notes(study: Study) -> list[str]:
    """Why there is no call to look at."""
    if study.patch is not None or study.loss:
        return []
    if study.loss_uses.refusal is not None:
        return [study.loss_uses.refusal.message]
    if study.loss_uses.names or study.loss_uses.strings:
        return [f"{ORIGINAL_LOSS} is not called where it can be followed; what was seen of it stands below"]
    return [near_misses(study.program.script.source)]

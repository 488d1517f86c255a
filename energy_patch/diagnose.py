"""diagnose: what is wrong with a script before anything is patched, in numbers and findings; nothing is run."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from difflib import SequenceMatcher
from pathlib import Path

from energy_patch.commands.apply import Request, apply
from energy_patch.findings import find_all
from energy_patch.findings.accumulation import config_fields
from energy_patch.findings.negatives import doubt, width_of_actions
from energy_patch.findings.script import Finding, Place, Script
from energy_patch.findings.separate_models import Sharing, sharing
from energy_patch.locate.near_misses import near_misses
from energy_patch.record.schema import ScriptEntry, current_entry, inspect_folder, script_home
from energy_patch.refusal import Reason, Refusal
from energy_patch.report.outcome import described
from energy_patch.strategies.base import Cost, Strategy, Value
from energy_patch.strategies.registry import DEFAULT, strategies
from energy_patch.syntax.source import LINE_END, Source, decode_source, read_source
from energy_patch.unpatch.undo import undo

USERS_ORDER = ("layer", "global", "local-batch", "adaptive")
USUAL_BATCH = 3
USUAL_CHUNK = (8, 7)
CHUNK_NAMES = ("NUM_ACTIONS_CHUNK", "ACTION_DIM")
TRAVEL_BYTES = 4  # actions of 16 bits travel as float32, which every backend carries exactly


@dataclass(frozen=True)
class Actions:
    """One expert action chunk as it travels; `seen` says which parts of it were read and which are assumed."""

    steps: int
    values: int
    value_bytes: int
    seen: str

    @property
    def bytes(self) -> int:
        return self.steps * self.values * self.value_bytes


@dataclass(frozen=True)
class Row:
    """One line of the table: what a sample meets, and what a rank pays for it in one step."""

    name: str
    what: str
    cost: Cost
    options: dict[str, Value] = field(default_factory=dict)


@dataclass(frozen=True)
class Recommendation:
    """What to do. `command` is None where nothing is to be done; `blocked` is why the command would be refused."""

    strategy: str | None
    why: str
    command: str | None
    blocked: str = ""


@dataclass(frozen=True)
class Diagnosis:
    """All that `diagnose` says of one script; with a `reason`, the script could not even be read."""

    path: Path
    gpus: int
    batch_size: int
    batch_from: str = ""
    reason: Reason | None = None
    message: str = ""
    line: int | None = None
    patched: str = ""
    in_place: tuple[Place, ...] = ()
    notes: tuple[str, ...] = ()
    calls: tuple[int, ...] = ()
    rows: tuple[Row, ...] = ()
    actions: Actions | None = None
    sharing: Sharing | None = None
    findings: tuple[Finding, ...] = ()
    doubts: tuple[Place, ...] = ()
    recommendation: Recommendation | None = None
    order: tuple[Strategy, ...] = ()


def diagnose(path: Path, gpus: int, batch_size: int | None) -> Diagnosis:
    """Look at one script; whatever is wrong with it becomes part of the answer."""
    start = Diagnosis(path, gpus, batch_size or USUAL_BATCH, order=_order())
    try:
        source = read_source(path)
        entry, trouble = _entry(path, source)
        if entry is None:
            return _look(start, source, source, None, batch_size, trouble)
        return _look_at_patched(start, source, entry, batch_size)
    except Refusal as refusal:
        return replace(start, reason=refusal.reason, message=refusal.message, line=refusal.line)


def _entry(path: Path, source: Source) -> tuple[ScriptEntry | None, str]:
    """How the script was patched, if it was; or what is wrong with the record."""
    folder, name = script_home(path)
    try:
        return current_entry(inspect_folder(folder).record, name, source.raw), ""
    except Refusal as refusal:
        return None, refusal.message


def _look_at_patched(start: Diagnosis, source: Source, entry: ScriptEntry, batch_size: int | None) -> Diagnosis:
    """Look at the script as it was before the patch, and give all lines as they are now."""
    patched = described(entry)
    try:
        undone = undo(source, entry)
    except Refusal as refusal:
        note = f"patched with {patched}, but not intact: {refusal.message}"
        return _look(replace(start, notes=(note,)), source, source, None, batch_size, "")
    original = decode_source(source.path, source.encode(undone.text))
    now = _lines_now(original, source)
    found = _look(start, original, source, entry, batch_size, "")
    edits = [
        (edit.line if undone.exact else now(_line_before(original, edit.start)), edit.title) for edit in entry.edits
    ]
    return replace(
        found,
        patched=patched,
        in_place=tuple(Place(line, title) for line, title in edits),
        notes=(*(() if undone.exact else ("edited since apply; the patch in it is intact",)), *undone.notes),
        calls=tuple(now(line) for line in found.calls),
        findings=tuple(_moved(finding, source.path, now) for finding in found.findings),
        doubts=tuple(Place(now(item.line), item.what) for item in found.doubts),
        sharing=None,
    )


def _look(
    start: Diagnosis,
    source: Source,
    as_it_is: Source,
    entry: ScriptEntry | None,
    given_batch: int | None,
    trouble: str,
) -> Diagnosis:
    script = Script(source, start.gpus, start.batch_size)
    batch, batch_from = _batch(script, given_batch)
    script.batch_size = batch
    actions = _actions(script)
    shared = sharing(script)
    mended = _mended_by(entry)
    findings = tuple(item for item in find_all(script) if item.name not in mended)
    doubts: list[Place] = []
    if script.loss and (uncertain := doubt(script)) is not None:
        doubts.append(Place(*uncertain))
    if script.loss and shared.state == "unknown" and "separate-models" not in mended:
        doubts.append(Place(shared.line or 0, f"whether the ranks share one model: {shared.what}"))
    notes = [*start.notes, *([trouble] if trouble else [])]
    if not script.loss:
        notes.append(script.refusal.message if script.refusal is not None else near_misses(source))
    elif script.refusal is not None:
        notes.append(script.refusal.message)
    return replace(
        start,
        batch_size=batch,
        batch_from=batch_from,
        notes=tuple(notes),
        calls=tuple(script.line(call) for call, _ in script.loss),
        rows=_rows(start.gpus, batch, actions, entry) if script.loss else (),
        actions=actions if script.loss else None,
        sharing=shared,
        findings=findings,
        doubts=tuple(doubts),
        recommendation=_recommend(script, as_it_is, entry, shared, findings),
    )


def _mended_by(entry: ScriptEntry | None) -> frozenset[str]:
    """The findings that a patch has taken care of."""
    if entry is None:
        return frozenset()
    chosen = strategies().get(entry.strategy)
    mended = set()
    if "no_sync" not in entry.options:
        mended.add("separate-models")
    if chosen is None or chosen.function:
        mended |= {"few-negatives", "accumulation"}
    if chosen is None or chosen.option("layer_actions") is not None:
        mended.add("unused-layer-actions")
    return frozenset(mended)


# Numbers


def _batch(script: Script, given: int | None) -> tuple[int, str]:
    if given is not None:
        return given, "--batch-size"
    for name, default, line in config_fields(script):
        number = default.replace("_", "")
        if name == "batch_size" and number.isdecimal() and int(number) > 0:
            return int(number), f"the config's default, line {line}"
    return USUAL_BATCH, "assumed"


def _actions(script: Script) -> Actions:
    sizes = [_constant(script, name) for name in CHUNK_NAMES]
    (steps, values), shape = USUAL_CHUNK, "assumed"
    if sizes[0] is not None and sizes[1] is not None:
        steps, values, shape = sizes[0], sizes[1], "read"
    width = width_of_actions(script)
    value_bytes = max(TRAVEL_BYTES, width[0] if width is not None else TRAVEL_BYTES)
    said = f"{steps} x {values} is {shape}"
    if width is not None and width[0] < TRAVEL_BYTES:
        said += f"; cast to {8 * width[0]} bits on line {width[1]}, they travel as {8 * value_bytes}"
    elif width is not None:
        said += f"; {8 * width[0]} bits by line {width[1]}"
    else:
        said += "; up to 32 bits assumed"
    return Actions(steps, values, value_bytes, said)


def _constant(script: Script, name: str) -> int | None:
    """A whole number that the script imports from a file beside it."""
    import libcst as cst

    target = script.neighbours.resolve(cst.Name(name), script.tree.root)
    return target.module.integer(target.name) if target is not None else None


def _rows(gpus: int, batch: int, actions: Actions, entry: ScriptEntry | None) -> tuple[Row, ...]:
    total = gpus * batch
    rows = []
    if gpus > 1:
        what = f"{gpus} ranks x {batch}" + (", before the patch" if entry is not None else ", each rank by itself")
        rows.append(Row("now" if entry is None else "before", what, Cost(batch - 1, batch * batch, 0)))
        rows.append(Row("one GPU", f"1 rank x {total}, if it fits", Cost(total - 1, total * total, 0)))
    else:
        rows.append(Row("now", f"1 rank x {batch}", Cost(batch - 1, batch * batch, 0)))
    for item in strategies().values():
        options: dict[str, Value] = {option.name: option.default for option in item.options}
        if entry is not None and entry.strategy == item.name:
            options |= {name: value for name, value in entry.options.items() if name in options}
        rows.append(Row(item.name, _told(item, options), item.cost(gpus, batch, actions.bytes, options), options))
    return tuple(rows)


def _told(strategy: Strategy, options: dict[str, Value]) -> str:
    """The options that the row's numbers depend on."""
    counts = [option for option in strategy.options if isinstance(option.default, int)]
    return " ".join(f"{option.flag} {options[option.name]}" for option in counts)


# What to do


def _order() -> tuple[Strategy, ...]:
    """The user's own order first, then the strategies that came later."""
    known = strategies()
    names = [name for name in USERS_ORDER if name in known]
    return tuple(known[name] for name in [*names, *(name for name in known if name not in names)])


def _recommend(
    script: Script, as_it_is: Source, entry: ScriptEntry | None, shared: Sharing, findings: Sequence[Finding]
) -> Recommendation:
    name = shlex.quote(str(as_it_is.path))
    if entry is not None:
        if "no_sync" in entry.options and any(item.name == "separate-models" for item in findings):
            why = "the loss is in place, but the ranks' models were left apart (--no-sync)"
            command = f"energy-patch apply --strategy {entry.strategy} {name}"
            return Recommendation(entry.strategy, why, command)
        return Recommendation(entry.strategy, "the patch is in place; start training as before", None)
    if script.gpus == 1:
        why = "one rank meets all samples of its batch already; nothing to gather and nothing to share"
        if "queue" not in strategies():
            return Recommendation(None, why, None)
        why = "one rank has no others to ask; a queue of earlier actions adds negatives to a small batch"
        return _proven("queue", why, as_it_is, f"energy-patch apply --strategy queue {name}")
    if not script.loss:
        return Recommendation(None, "there is no call of the loss to replace", None)
    best = strategies()[DEFAULT]
    total = script.gpus * script.batch_size
    why = f"every sample meets {total - 1} negatives, as on one GPU, and all ranks train one model"
    if shared.state == "shared":
        why = f"every sample meets {total - 1} negatives, as on one GPU; --no-sync keeps your own synchronisation alone"
    return _proven(best.name, why, as_it_is, f"energy-patch apply --strategy {best.name} {name}")


def _proven(strategy: str, why: str, source: Source, command: str) -> Recommendation:
    """A recommendation after a dry run: a command that would be refused says so."""
    report = apply([source.path], Request(strategy), write=False, cwd=Path.cwd())
    outcome = report.outcomes[0]
    if outcome.outcome != "refused":
        return Recommendation(strategy, why, command)
    where = f"line {outcome.line}: " if outcome.line else ""
    return Recommendation(strategy, why, command, f"{where}{outcome.message}")


# Lines of a patched script


class _Lines:
    """Where a line of one text is in another that differs in a few places."""

    def __init__(self, before: list[str], after: list[str]) -> None:
        self.blocks = SequenceMatcher(None, before, after, autojunk=False).get_opcodes()

    def __call__(self, line: int) -> int:
        for tag, i1, i2, j1, j2 in self.blocks:
            if i1 < line <= i2:
                return j1 + line - i1 if tag == "equal" else max(j2 - (i2 - line), j1 + 1)  # the patch inserts before
        return line


def _lines_now(original: Source, source: Source) -> _Lines:
    return _Lines(LINE_END.split(original.text), LINE_END.split(source.text))


def _line_before(source: Source, offset: int) -> int:
    return source.line_of(offset)


def _moved(finding: Finding, script: Path, now: _Lines) -> Finding:
    """A finding about the script with its lines as they are now; one about another file stays."""
    if finding.path != script:
        return finding
    places = tuple(Place(now(item.line), item.what) for item in finding.places)
    return replace(finding, line=now(finding.line), places=places)

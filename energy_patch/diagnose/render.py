"""A diagnosis as a person reads it, and as a program does."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from energy_patch.diagnose.check import Finding
from energy_patch.diagnose.engine import Diagnosis
from energy_patch.diagnose.numbers import Row
from energy_patch.diagnose.study import Place
from energy_patch.strategies.base import options_tree
from energy_patch.wrapping import hanging

WIDTH = 100  # columns, where the terminal has as many
NARROWEST = 12  # columns of a table's cell that is wrapped
HEADINGS = ("negatives", "energies", "gathered")


@dataclass(frozen=True)
class Hanging:
    """Text that is wrapped: it stands behind `first`, and its further lines behind `rest`."""

    text: str
    first: str
    rest: str


Part = str | Hanging  # a line as it is, or one that is wrapped


def as_text(found: Diagnosis, width: int | None = None) -> Iterator[str]:
    """Lines for stdout: the numbers, each finding, what could not be followed or told, and one recommendation."""
    width = min(width or WIDTH, WIDTH)
    for part in _parts(found, width):
        if isinstance(part, Hanging):
            yield from hanging(part.text, part.first, part.rest, width)
        else:
            yield part


def _parts(found: Diagnosis, width: int) -> Iterator[Part]:
    where = f"{found.path}:{found.line}" if found.line else f"{found.path}"
    if found.reason is not None:
        yield f"{where}: {found.message}"
        return
    yield f"{found.path}: {found.state}"
    for note in found.notes:
        yield Hanging(note, "  - ", "    ")
    if found.in_place:
        yield ""
        yield "In place"
        column = max(len(item.where) for item in found.in_place)
        yield from (Hanging(item.what, f"  {item.where:{column}}  ", " " * (column + 4)) for item in found.in_place)
    if found.rows:
        yield ""
        yield from _table(found, width)
    yield ""
    yield from _findings(found)
    for heading, places in (("Seen, but not followed", found.unfollowed), ("Not certain", found.doubts)):
        if places:
            yield ""
            yield heading
            for item in places:
                yield Hanging(_located(item), "  - ", "    ")
    if found.recommendation is not None:
        yield ""
        yield from _recommendation(found)


def _table(found: Diagnosis, width: int) -> Iterator[Part]:
    batch = f"{found.gpus} GPU{'s' if found.gpus > 1 else ''} x batch {found.batch_size}"
    yield Hanging(f"{batch} ({found.batch_from}); energies and bytes are each rank's, per step", "", "  ")
    yield ""
    chosen = found.recommendation.strategy if found.recommendation is not None else None
    lines = [(_label(row, chosen), row.what, *_numbers(row)) for row in found.rows]
    first = max(len(line[0]) for line in lines)
    columns = [max(len(heading), *(len(line[place]) for line in lines)) for place, heading in enumerate(HEADINGS, 2)]
    heads = "".join(f"  {heading:>{column}}" for heading, column in zip(HEADINGS, columns, strict=True))
    room = max(width - first - len(heads) - 4, NARROWEST)
    second = min(max(len(line[1]) for line in lines), room)
    yield f"  {'':{first}}  {'':{second}}{heads}"
    for label, what, *numbers in lines:
        cells = "".join(f"  {number:>{column}}" for number, column in zip(numbers, columns, strict=True))
        here, *more = hanging(what, "", "", second) or [""]
        yield f"  {label:{first}}  {here:{second}}{cells}"
        yield from (f"  {'':{first}}  {below}" for below in more)
    if found.actions is not None:
        yield ""
        yield Hanging(f"One action chunk travels as {found.actions.bytes} bytes: {found.actions.seen}.", "  ", "  ")


def _label(row: Row, chosen: str | None) -> str:
    return f"> {row.name}" if row.name == chosen else f"  {row.name}"


def _numbers(row: Row) -> tuple[str, str, str]:
    cost = row.cost
    return f"{cost.negatives:,}", f"{cost.evaluations:,}", f"{cost.gathered_bytes:,} B" if cost.gathered_bytes else "-"


def _findings(found: Diagnosis) -> Iterator[Part]:
    count = len(found.findings)
    if not count:
        yield _no_findings(found)
        return
    yield f"{count} finding{'s' if count > 1 else ''}"
    for number, finding in enumerate(found.findings, start=1):
        yield ""
        where = f"line {finding.line}" if finding.path == found.path else _beside(finding, found.path)
        yield Hanging(f"{where}: {finding.title} [{finding.name}]", f"{number:>3}. ", "     ")
        if finding.places:
            also = "; ".join(f"{item.where} ({item.what})" for item in finding.places)
            yield Hanging(also, "     also  ", "           ")
        yield Hanging(finding.why, "     why   ", "           ")
        yield Hanging(finding.cure, "     fix   ", "           ")


def _no_findings(found: Diagnosis) -> str:
    """Never that nothing was found where something was seen that could not be followed."""
    if found.unfollowed or found.doubts:
        return "No findings in what could be followed"
    if not found.calls:
        return "No findings; there is no call of the loss to look at"
    return "No findings" if not found.is_patched else "No other findings"


def _located(place: Place) -> str:
    """What is said of a line, of a file, or of the whole script."""
    return f"{place.where}: {place.what}" if place.where else place.what


def _beside(finding: Finding, script: Path) -> str:
    return f"{os.path.relpath(finding.path, script.resolve().parent)}, line {finding.line}"


def _recommendation(found: Diagnosis) -> Iterator[Part]:
    advice = found.recommendation
    assert advice is not None
    if advice.command is None:
        yield Hanging(f"Recommended: nothing to apply; {advice.why}", "", "  ")
        return
    yield Hanging(f"Recommended: {advice.strategy}; {advice.why}", "", "  ")
    yield f"  {advice.command}"
    if advice.blocked:
        yield Hanging(f"It would be refused as the script is now: {advice.blocked}", "  ", "  ")
    if found.is_patched:
        return
    yield ""
    yield "All strategies"
    width = max(len(item.name) for item in found.order)
    for item in found.order:
        yield Hanging(item.advice, f"  {item.name:{width}}  ", " " * (width + 4))


def as_tree(found: Diagnosis) -> dict[str, Any]:
    """One script of the object that `--json` prints: what all commands say of one, then what only this one says."""
    common = {
        "path": str(found.path),
        "outcome": "diagnosed" if found.reason is None else "refused",
        "reason": found.reason,
        "message": found.message or None,
        "line": found.line,
        "strategy": found.strategy,
        "options": options_tree(found.options),
        "edits": _edits(found, None),
        "notes": list(found.notes),
        "findings": [_finding(item) for item in found.findings],
        "modules": [
            {"path": path, "edits": _edits(found, path), "diff": None}
            for path in dict.fromkeys(item.path for item in found.in_place if item.path is not None)
        ],
        "diff": None,
    }
    return common if found.reason is not None else {**common, **_numbers_and_advice(found)}


def _edits(found: Diagnosis, path: str | None) -> list[dict[str, Any]]:
    return [{"line": item.line, "title": item.what} for item in found.in_place if item.path == path]


def _numbers_and_advice(found: Diagnosis) -> dict[str, Any]:
    actions, advice = found.actions, found.recommendation
    return {
        "patched": found.state.removeprefix("patched, ") if found.is_patched else None,
        "in_place": [vars(item) for item in found.in_place],
        "gpus": found.gpus,
        "batch_size": found.batch_size,
        "batch_size_from": found.batch_from,
        "action_bytes": actions.bytes if actions is not None else None,
        "action_bytes_from": actions.seen if actions is not None else None,
        "calls": [{"path": item.path, "line": item.line} for item in found.calls],
        "numbers": [
            {"name": row.name, "what": row.what, **vars(row.cost), "options": row.options} for row in found.rows
        ],
        "sharing": found.sharing,
        "unfollowed": [vars(item) for item in found.unfollowed],
        "doubts": [vars(item) for item in found.doubts],
        "recommendation": None if advice is None else vars(advice),
        "order": [{"name": item.name, "advice": item.advice} for item in found.order],
    }


def _finding(item: Finding) -> dict[str, Any]:
    return {**vars(item), "path": str(item.path), "places": [vars(place) for place in item.places]}

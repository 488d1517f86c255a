"""A diagnosis as a person reads it, and as a program does."""

from __future__ import annotations

import json
import os
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from energy_patch.diagnose.check import Finding
from energy_patch.diagnose.engine import Diagnosis
from energy_patch.diagnose.numbers import Row
from energy_patch.diagnose.study import Place

WIDTH = 100
HEADINGS = ("negatives", "energies", "gathered")


def as_text(found: Diagnosis) -> Iterator[str]:
    """Lines for stdout: the numbers, each finding, what could not be followed or told, and one recommendation."""
    where = f"{found.path}:{found.line}" if found.line else f"{found.path}"
    if found.reason is not None:
        yield f"{where}: {found.message}"
        return
    state = f"patched, {found.patched}" if found.patched else "not patched"
    yield f"{found.path}: {state}"
    for note in found.notes:
        yield from _wrapped(note, "  - ", "    ")
    if found.in_place:
        yield ""
        yield "In place"
        width = max(len(_line(item)) for item in found.in_place)
        yield from (f"  {_line(item):{width}}  {item.what}" for item in found.in_place)
    if found.rows:
        yield ""
        yield from _table(found)
    yield ""
    yield from _findings(found)
    for heading, places in (("Seen, and not followed", found.unfollowed), ("Could not be told", found.doubts)):
        if places:
            yield ""
            yield heading
            for item in places:
                yield from _wrapped((f"{_line(item)}: " if item.line else "") + item.what, "  - ", "    ")
    if found.recommendation is not None:
        yield ""
        yield from _recommendation(found)


def _table(found: Diagnosis) -> Iterator[str]:
    batch = f"{found.gpus} GPU{'s' if found.gpus > 1 else ''} x batch {found.batch_size}"
    yield f"{batch} ({found.batch_from}); energies and bytes are each rank's, per step"
    yield ""
    chosen = found.recommendation.strategy if found.recommendation is not None else None
    lines = [(_label(row, chosen), row.what, *_numbers(row)) for row in found.rows]
    first = max(len(line[0]) for line in lines)
    second = max(len(line[1]) for line in lines)
    widths = [max(len(heading), *(len(line[place]) for line in lines)) for place, heading in enumerate(HEADINGS, 2)]
    heads = "   ".join(f"{heading:>{width}}" for heading, width in zip(HEADINGS, widths, strict=True))
    yield f"    {'':{first}}  {'':{second}}   {heads}"
    for label, what, *numbers in lines:
        cells = "   ".join(f"{number:>{width}}" for number, width in zip(numbers, widths, strict=True))
        yield f"  {label:{first + 2}}  {what:{second}}   {cells}"
    if found.actions is not None:
        yield ""
        yield from _wrapped(
            f"One action chunk travels as {found.actions.bytes} bytes: {found.actions.seen}.", "  ", "  "
        )


def _label(row: Row, chosen: str | None) -> str:
    return f"> {row.name}" if row.name == chosen else f"  {row.name}"


def _numbers(row: Row) -> tuple[str, str, str]:
    cost = row.cost
    return f"{cost.negatives:,}", f"{cost.evaluations:,}", f"{cost.gathered_bytes:,} B" if cost.gathered_bytes else "-"


def _findings(found: Diagnosis) -> Iterator[str]:
    count = len(found.findings)
    if not count:
        yield _no_findings(found)
        return
    yield f"{count} finding{'s' if count > 1 else ''}"
    for number, finding in enumerate(found.findings, start=1):
        yield ""
        where = f"line {finding.line}" if finding.path == found.path else _beside(finding, found.path)
        yield from _wrapped(f"{where}: {finding.title} [{finding.name}]", f"{number:>3}. ", "     ")
        if finding.places:
            also = "; ".join(f"{_line(item)} {item.what}" for item in finding.places)
            yield from _wrapped(also, "     also  ", "           ")
        yield from _wrapped(finding.why, "     why   ", "           ")
        yield from _wrapped(finding.cure, "     fix   ", "           ")


def _no_findings(found: Diagnosis) -> str:
    """Never that nothing was found where something was seen that could not be followed."""
    if found.unfollowed or found.doubts:
        return "No findings in what could be followed"
    if not found.calls:
        return "No findings; there is no call of the loss to look at"
    return "No findings" if not found.patched else "No other findings"


def _line(place: Place) -> str:
    return f"line {place.line}" if place.path is None else f"{place.path}, line {place.line}"


def _beside(finding: Finding, script: Path) -> str:
    return f"{os.path.relpath(finding.path, script.resolve().parent)}, line {finding.line}"


def _recommendation(found: Diagnosis) -> Iterator[str]:
    advice = found.recommendation
    assert advice is not None
    if advice.command is None:
        yield from _wrapped(f"Recommended: nothing to apply; {advice.why}", "", "  ")
        return
    yield from _wrapped(f"Recommended: {advice.strategy}; {advice.why}", "", "  ")
    yield f"  {advice.command}"
    if advice.blocked:
        yield from _wrapped(f"It would be refused as the script is now: {advice.blocked}", "  ", "  ")
    if found.patched:
        return
    yield ""
    yield "All strategies"
    width = max(len(item.name) for item in found.order)
    for item in found.order:
        yield from _wrapped(item.advice, f"  {item.name:{width}}  ", " " * (width + 4))


def _wrapped(text: str, first: str, rest: str) -> list[str]:
    lines: list[str] = []
    for part in text.split("\n"):
        lines += textwrap.wrap(
            part,
            WIDTH,
            initial_indent=first if not lines else rest,
            subsequent_indent=rest,
            break_long_words=False,
            break_on_hyphens=False,
        )
    return lines


def as_json(found: Diagnosis) -> str:
    """The one object that `--json` prints."""
    return json.dumps(_tree(found), indent=2)


def _tree(found: Diagnosis) -> dict[str, Any]:
    if found.reason is not None:
        known = {"outcome": "refused", "reason": found.reason, "message": found.message, "line": found.line}
        return {"path": str(found.path), **known}
    actions, advice = found.actions, found.recommendation
    return {
        "path": str(found.path),
        "outcome": "diagnosed",
        "patched": found.patched or None,
        "in_place": [vars(item) for item in found.in_place],
        "notes": list(found.notes),
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
        "findings": [_finding(item) for item in found.findings],
        "unfollowed": [vars(item) for item in found.unfollowed],
        "doubts": [vars(item) for item in found.doubts],
        "recommendation": None if advice is None else vars(advice),
        "order": [{"name": item.name, "advice": item.advice} for item in found.order],
    }


def _finding(item: Finding) -> dict[str, Any]:
    return {**vars(item), "path": str(item.path), "places": [vars(place) for place in item.places]}

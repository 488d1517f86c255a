"""Reports as a person reads them, and as a program does."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from energy_patch.report.outcome import Outcome, Report

WORDS = {
    "patched": "patched",
    "already-applied": "already applied",
    "would-change": "would change (dry run, nothing written)",
    "reverted": "reverted",
    "not-applied": "not patched",
    "drifted": "drifted",
    "refused": "refused",
    "not-attempted": "not attempted",
}


def as_json(report: Report) -> str:
    """The one object that `--json` prints."""
    return json.dumps({"outcome": report.outcome, "scripts": [_script(item) for item in report.outcomes]}, indent=2)


def _script(item: Outcome) -> dict[str, Any]:
    return {
        "path": str(item.path),
        "outcome": item.outcome,
        "reason": item.reason,
        "message": item.message or None,
        "line": item.line,
        "edits": _edits(item.edits),
        "diff": _text(item.diff),
        "modules": [
            {"path": module.name, "edits": _edits(module.edits), "diff": _text(module.diff)} for module in item.modules
        ],
    }


def _edits(edits: tuple[tuple[int, str], ...]) -> list[dict[str, Any]]:
    return [{"line": line, "title": title} for line, title in edits]


def _text(diff: bytes) -> str | None:
    return diff.decode("utf-8", "backslashreplace") or None


def as_text(report: Report, *, after: str = "") -> Iterator[str]:
    """Lines for stderr: each script with its edits and notes, the files beside it, and what to run next."""
    for item in report.outcomes:
        if item.outcome in ("refused", "drifted"):
            where = f"{item.path}:{item.line}" if item.line else f"{item.path}"
            yield f"{where}: {WORDS[item.outcome]} ({item.reason}): {item.message}"
            continue
        yield f"{item.path}: {WORDS[item.outcome]}" + (f", {item.message}" if item.message else "")
        yield from _edit_lines(item.edits, "  ")
        for module in item.modules:
            yield f"  {module.name}" + (":" if module.edits else "")
            yield from _edit_lines(module.edits, "    ")
        for note in item.notes:
            yield f"  - {note}"
    for text in report.files:
        yield f"  {text}"
    for note in report.notes:
        yield f"  - {note}"
    if after:
        yield after


def _edit_lines(edits: tuple[tuple[int, str], ...], indent: str) -> Iterator[str]:
    width = max((len(str(line)) for line, _ in edits), default=0)
    for line, title in edits:
        yield f"{indent}line {line:>{width}}  {title}"

"""The one object that `--json` prints, the same shape for all commands; `schema.json` beside this file describes it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from energy_patch.report.outcome import Outcome, Report
from energy_patch.strategies.base import options_tree

VERSION = 1


def contract(
    command: str | None,
    outcome: str,
    scripts: Sequence[Mapping[str, Any]] = (),
    *,
    message: str | None = None,
    files: Sequence[Mapping[str, Any]] = (),
    notes: Sequence[str] = (),
) -> str:
    """The object as text; `message` says what was wrong with the call itself."""
    return json.dumps(
        {
            "version": VERSION,
            "command": command,
            "outcome": outcome,
            "message": message,
            "scripts": [*scripts],
            "files": [*files],
            "notes": [*notes],
        },
        indent=2,
    )


def report_contract(report: Report) -> str:
    """The object of a report."""
    return contract(
        report.command,
        report.outcome,
        [_script(item) for item in report.outcomes],
        files=[vars(file) for file in report.files],
        notes=report.notes,
    )


def _script(item: Outcome) -> dict[str, Any]:
    return {
        "path": str(item.path),
        "outcome": item.outcome,
        "reason": item.reason,
        "message": item.message or None,
        "line": item.line,
        "strategy": item.strategy,
        "options": options_tree(item.options),
        "edits": _edits(item.edits),
        "notes": [*item.notes],
        "findings": [],
        "modules": [
            {"path": module.name, "edits": _edits(module.edits), "diff": _text(module.diff)} for module in item.modules
        ],
        "diff": _text(item.diff),
    }


def _edits(edits: Sequence[tuple[int, str]]) -> list[dict[str, Any]]:
    return [{"line": line, "title": title} for line, title in edits]


def _text(diff: bytes) -> str | None:
    return diff.decode("utf-8", "backslashreplace") or None

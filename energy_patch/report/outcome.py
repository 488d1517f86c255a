"""What became of each script, and the exit code that says so."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from energy_patch.files.diff import unified_diff
from energy_patch.files.transaction import FileChange
from energy_patch.record.schema import ScriptEntry
from energy_patch.refusal import Reason
from energy_patch.strategies.base import FOLDER_NAME
from energy_patch.unpatch.undo import Undone

OutcomeName = Literal[
    "patched",
    "already-applied",
    "would-change",
    "reverted",
    "not-applied",
    "drifted",
    "refused",
    "not-attempted",
]

CHANGING: tuple[OutcomeName, ...] = ("patched", "reverted", "would-change")


@dataclass(frozen=True)
class ModuleOutcome:
    """What became of a module that is patched with a script, by its path below the script's folder."""

    name: str
    edits: tuple[tuple[int, str], ...] = ()
    diff: bytes = b""


@dataclass(frozen=True)
class Outcome:
    """One script's result. `edits` are (line, what it does); `notes` are for a person; `diff` is raw bytes."""

    path: Path
    outcome: OutcomeName
    reason: Reason | None = None
    message: str = ""
    line: int | None = None
    edits: tuple[tuple[int, str], ...] = ()
    notes: tuple[str, ...] = ()
    diff: bytes = b""
    modules: tuple[ModuleOutcome, ...] = ()

    @property
    def whole_diff(self) -> bytes:
        """The diff of the script and of the modules that are patched with it."""
        return b"".join([self.diff, *(module.diff for module in self.modules)])


@dataclass(frozen=True)
class Report:
    """All scripts of one call; `files` are changes beside the scripts, in words; `full_diff` includes them."""

    outcomes: tuple[Outcome, ...]
    files: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    full_diff: bytes = b""

    @property
    def outcome(self) -> OutcomeName:
        """The outcome of the whole call: the first that matters most."""
        names = [item.outcome for item in self.outcomes]
        order: list[OutcomeName] = ["refused", "drifted", *CHANGING, "already-applied"]
        return next((name for name in order if name in names), "not-applied")

    @property
    def exit_code(self) -> int:
        return 1 if any(item.outcome == "refused" for item in self.outcomes) else 0

    @property
    def has_work(self) -> bool:
        return any(item.outcome in CHANGING for item in self.outcomes)


def listed_edits(entry: ScriptEntry, undone: Undone | None = None) -> tuple[tuple[int, str], ...]:
    """The edits that an entry records, each with its line; where the script was edited since, today's."""
    lines = undone.lines if undone is not None else [edit.line for edit in entry.edits]
    return tuple((line, edit.title) for line, edit in zip(lines, entry.edits, strict=True))


def described_files(changes: Sequence[FileChange], cwd: Path) -> tuple[str, ...]:
    """The changes in `energy_losses/`, a line for each kind: new, replaced, removed."""
    first = {change.path: change.before for change in reversed(changes)}
    last = {change.path: change.after for change in changes}
    lines = []
    for folder in sorted({path.parent for path in last if path.parent.name == FOLDER_NAME}):
        names = {path: path.name for path in sorted(last) if path.parent == folder and first[path] != last[path]}
        kinds = {
            "new": [name for path, name in names.items() if first[path] is None],
            "replaced": [name for path, name in names.items() if first[path] is not None and last[path] is not None],
            "removed": [name for path, name in names.items() if last[path] is None],
        }
        shown = os.path.relpath(folder, cwd.resolve())
        lines += [f"{kind} in {shown}/: {', '.join(found)}" for kind, found in kinds.items() if found]
    return tuple(lines)


def script_diff(path: Path, changes: Sequence[FileChange], cwd: Path) -> bytes:
    """The diff of one script alone."""
    return unified_diff([change for change in changes if change.path == path.resolve()], cwd, False)

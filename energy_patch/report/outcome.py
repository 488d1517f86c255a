"""What became of each script, and the exit code that says so."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from energy_patch.files.diff import unified_diff
from energy_patch.files.transaction import FileChange
from energy_patch.record.schema import ScriptEntry
from energy_patch.refusal import Reason, Refusal
from energy_patch.strategies.base import FOLDER_NAME, Value
from energy_patch.unpatch.undo import Undone

OutcomeName = Literal[
    "patched",
    "already-applied",
    "would-change",
    "reverted",
    "not-applied",
    "patch-modified",
    "refused",
    "not-attempted",
]
CommandName = Literal["apply", "revert", "status", "diagnose"]
ChangeKind = Literal["new", "changed", "removed"]

CHANGING: tuple[OutcomeName, ...] = ("patched", "reverted", "would-change")
FAILED: tuple[OutcomeName, ...] = ("refused", "patch-modified")


@dataclass(frozen=True)
class ModuleOutcome:
    """What became of a module that is patched with a script, by its path below the script's folder."""

    name: str
    edits: tuple[tuple[int, str], ...] = ()
    diff: bytes = b""


@dataclass(frozen=True)
class Outcome:
    """One script's result. `edits` are (line, what it does); `notes` are for a person; `diff` is raw bytes.

    `strategy` and `options` are those that the script is patched with, or was; a script that does not call the loss is
    `not-applied` with the reason `not-found` where other scripts of the call do. A bystander is one of many of which
    nothing needs to be said but the name.
    """

    path: Path
    outcome: OutcomeName
    reason: Reason | None = None
    message: str = ""
    line: int | None = None
    strategy: str | None = None
    options: Mapping[str, Value] = field(default_factory=dict)
    edits: tuple[tuple[int, str], ...] = ()
    notes: tuple[str, ...] = ()
    diff: bytes = b""
    modules: tuple[ModuleOutcome, ...] = ()
    is_bystander: bool = False

    @property
    def whole_diff(self) -> bytes:
        """The diff of the script and of the modules that are patched with it."""
        return b"".join([self.diff, *(module.diff for module in self.modules)])


@dataclass(frozen=True)
class TouchedFile:
    """A file that a call wrote, or would write, by its path from the working directory."""

    path: str
    change: ChangeKind


@dataclass(frozen=True)
class Report:
    """All scripts of one call and all files that it writes; `full_diff` is that of all these files.

    `after` says what to run next; `is_check`, that work to be done is an exit code of its own.
    """

    command: CommandName
    outcomes: tuple[Outcome, ...]
    files: tuple[TouchedFile, ...] = ()
    notes: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    full_diff: bytes = b""
    is_check: bool = False

    @property
    def outcome(self) -> OutcomeName:
        """The outcome of the whole call: the first that matters most."""
        names = [item.outcome for item in self.outcomes]
        order: list[OutcomeName] = [*FAILED, *CHANGING, "already-applied"]
        return next((name for name in order if name in names), "not-applied")

    @property
    def exit_code(self) -> int:
        if any(item.outcome in FAILED for item in self.outcomes):
            return 1
        return 3 if self.is_check and self.has_work else 0

    @property
    def diff(self) -> bytes:
        """The diff of the scripts and of the modules that are patched with them, without the new files."""
        return b"".join(item.whole_diff for item in self.outcomes)

    @property
    def has_work(self) -> bool:
        return any(item.outcome in CHANGING for item in self.outcomes)


def refused_outcome(path: Path, refusal: Refusal, outcome: OutcomeName = "refused") -> Outcome:
    """A script that was refused, with the reason."""
    return Outcome(path, outcome, refusal.reason, refusal.message, refusal.line)


def listed_edits(entry: ScriptEntry, undone: Undone | None = None) -> tuple[tuple[int, str], ...]:
    """The edits that an entry records, each with its line; where the script was edited since, today's."""
    lines = undone.lines if undone is not None else [edit.line for edit in entry.edits]
    return tuple((line, edit.title) for line, edit in zip(lines, entry.edits, strict=True))


def touched_files(changes: Sequence[FileChange], cwd: Path) -> tuple[TouchedFile, ...]:
    """The files that differ after the changes, each once, by path."""
    first = {change.path: change.before for change in reversed(changes)}
    last = {change.path: change.after for change in changes}
    return tuple(
        TouchedFile(
            os.path.relpath(path, cwd.resolve()),
            "new" if first[path] is None else "removed" if last[path] is None else "changed",
        )
        for path in sorted(last)
        if first[path] != last[path]
    )


def described_files(files: Iterable[TouchedFile]) -> tuple[str, ...]:
    """The changes in `energy_losses/`, a line for each folder and kind."""
    groups: dict[str, list[str]] = {}
    for kind, word in (("new", "new"), ("changed", "replaced"), ("removed", "removed")):
        for file in files:
            path = Path(file.path)
            if file.change == kind and path.parent.name == FOLDER_NAME:
                groups.setdefault(f"{word} in {path.parent}/", []).append(path.name)
    return tuple(f"{where}: {', '.join(names)}" for where, names in groups.items())


def script_diff(path: Path, changes: Sequence[FileChange], cwd: Path) -> bytes:
    """The diff of one script alone."""
    return unified_diff([change for change in changes if change.path == path.resolve()], cwd, False)

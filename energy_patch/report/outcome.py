"""What became of each script, and the exit code that says so."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from energy_patch.commands.batch import Script, Settled, Stopped
from energy_patch.files.changes import FileChange
from energy_patch.files.diff import unified_diff
from energy_patch.record.schema import ScriptEntry
from energy_patch.refusal import Reason, Refusal
from energy_patch.strategies.base import FOLDER_NAME, SWITCHES, flag_of
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


def described(entry: ScriptEntry) -> str:
    """The strategy and the options that a script was patched with."""
    options = [flag_of(name) + ("" if name in SWITCHES else f" {value}") for name, value in entry.options.items()]
    return " ".join([f"strategy {entry.strategy}", *options])


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


def reported(
    paths: Sequence[Path],
    done: Settled[Script] | Stopped,
    outcome_of: Callable[[Script, Sequence[FileChange]], Outcome],
    cwd: Path,
) -> Report:
    """The report of a call that was settled or stopped; `outcome_of` says what became of one script."""
    if isinstance(done, Stopped):
        return refused(paths, done.path, done.refusal)
    return Report(
        outcomes=tuple(outcome_of(script, done.changes) for script in done.scripts),
        files=described_files(done.changes, cwd),
        notes=done.notes,
        full_diff=unified_diff(done.changes, cwd, True),
    )


def refused(paths: Sequence[Path], culprit: Path, refusal: Refusal) -> Report:
    """One script refused, so none of the call's scripts was touched."""
    outcomes = [
        Outcome(path, "refused", refusal.reason, refusal.message, refusal.line)
        if path == culprit
        else Outcome(path, "not-attempted", message="another script of this call was refused")
        for path in dict.fromkeys(paths)
    ]
    return Report(tuple(outcomes))

"""Several scripts as one: read and decide all of them, then write all or none."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from energy_patch.files.diff import unified_diff
from energy_patch.files.folder import script_home
from energy_patch.files.lock import exclusive
from energy_patch.files.transaction import ChangeSet, FileChange, sweep, write_changes
from energy_patch.refusal import Refusal
from energy_patch.report.outcome import CommandName, Outcome, Report, refused_outcome, touched_files


class OnItsWay(Protocol):
    """A script that was read and for which it was decided what becomes of it."""

    @property
    def path(self) -> Path: ...


Script = TypeVar("Script", bound=OnItsWay)


@dataclass(frozen=True)
class Settled(Generic[Script]):
    """All scripts of a call and all changes, written or only decided."""

    scripts: tuple[Script, ...]
    changes: tuple[FileChange, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Stopped:
    """The script on account of which none was touched."""

    path: Path
    refusal: Refusal


def settle(
    paths: Sequence[Path],
    prepare: Callable[[Path], Script],
    decide: Callable[[Path, Sequence[Script]], ChangeSet],
    *,
    write: bool,
) -> Settled[Script] | Stopped:
    """Prepare each script, decide the changes of each folder, and with `write` make them."""
    # One script under two names, a link and its target, is one script.
    paths = list({script_home(path): path for path in reversed(paths)}.values())[::-1]
    at = paths[0]
    try:
        with exclusive(paths) if write else contextlib.nullcontext():
            scripts: list[Script] = []
            for path in paths:
                at = path
                scripts.append(prepare(path))
            sets: list[ChangeSet] = []
            for folder in dict.fromkeys(script_home(path)[0] for path in paths):
                inside = [script for script in scripts if script_home(script.path)[0] == folder]
                at = inside[0].path
                sets.append(decide(folder, inside))
                if write:
                    sweep(folder)
            changes = tuple(change for found in sets for change in found.changes)
            if write:
                write_changes(changes)
    except Refusal as refusal:
        return Stopped(at, refusal)
    return Settled(tuple(scripts), changes, tuple(note for found in sets for note in found.notes))


def reported(
    command: CommandName,
    paths: Sequence[Path],
    done: Settled[Script] | Stopped,
    outcome_of: Callable[[Script, Sequence[FileChange]], Outcome],
    cwd: Path,
) -> Report:
    """The report of a call that was settled or stopped; `outcome_of` says what became of one script."""
    if isinstance(done, Stopped):
        return refused(command, paths, done.path, done.refusal)
    return Report(
        command,
        outcomes=tuple(outcome_of(script, done.changes) for script in done.scripts),
        files=touched_files(done.changes, cwd),
        notes=done.notes,
        full_diff=unified_diff(done.changes, cwd, True),
    )


def refused(command: CommandName, paths: Sequence[Path], culprit: Path, refusal: Refusal) -> Report:
    """One script refused, so none of the call's scripts was touched."""
    outcomes = [
        refused_outcome(path, refusal)
        if path == culprit
        else Outcome(path, "not-attempted", message="another script of this call was refused")
        for path in dict.fromkeys(paths)
    ]
    return Report(command, tuple(outcomes))

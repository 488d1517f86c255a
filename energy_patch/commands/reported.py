"""The report of a call for several scripts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from energy_patch.commands.batch import PassedOver, Script, Settled, Stopped
from energy_patch.commands.scripts import Scripts
from energy_patch.files.diff import unified_diff
from energy_patch.files.folder import script_home
from energy_patch.files.transaction import FileChange
from energy_patch.refusal import PatchedThrough
from energy_patch.report.outcome import CommandName, Outcome, Report, refused_outcome, touched_files

OutcomeOf = Callable[[Script, Sequence[FileChange]], Outcome]


def reported(
    command: CommandName, named: Scripts, done: Settled[Script] | Stopped, outcome_of: OutcomeOf[Script], cwd: Path
) -> Report:
    """The report of a call that was settled or stopped; `outcome_of` says what became of one script."""
    if isinstance(done, Stopped):
        return _refused(command, named, done)
    worked_on = {script.path: outcome_of(script, done.changes) for script in done.scripts}
    passed = {item.path: passed_outcome(item, worked_on, named) for item in done.passed}
    found = {**worked_on, **passed}
    return Report(
        command,
        outcomes=tuple(found[path] for path in named.paths),
        files=touched_files(done.changes, cwd),
        notes=done.notes,
        full_diff=unified_diff(done.changes, cwd, True),
    )


def passed_outcome(item: PassedOver, worked_on: Mapping[Path, Outcome], named: Scripts) -> Outcome:
    """What became of a script that was passed over: what became of the one that it goes with, or nothing."""
    script = item.refusal.script if isinstance(item.refusal, PatchedThrough) else item.with_script
    if script is not None:
        partner = next((found for path, found in worked_on.items() if script_home(path) == script_home(script)), None)
        message = item.message or f"together with {script}, which imports it"
        return Outcome(item.path, partner.outcome if partner is not None else "already-applied", message=message)
    if item.refusal is None:
        return Outcome(item.path, "not-applied", message=item.message)
    refusal = item.refusal
    is_bystander = named.are_many and not named.concerns(item.path)
    return Outcome(item.path, "not-applied", refusal.reason, refusal.message, refusal.line, is_bystander=is_bystander)


def _refused(command: CommandName, named: Scripts, stopped: Stopped) -> Report:
    """One script refused, so none of the call's scripts was touched."""
    message = f"{stopped.path} was refused"
    return Report(
        command,
        tuple(
            refused_outcome(path, stopped.refusal)
            if path == stopped.path
            else Outcome(path, "not-attempted", message=message, is_bystander=named.are_many)
            for path in named.paths
        ),
    )

"""Several scripts as one: read and decide all of them, then write all or none."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from energy_patch.commands.modules import is_program
from energy_patch.commands.scripts import Scripts
from energy_patch.files.folder import script_home
from energy_patch.files.lock import exclusive
from energy_patch.files.transaction import ChangeSet, FileChange, sweep, write_changes
from energy_patch.refusal import NotCalled, Refusal
from energy_patch.syntax.source import Source


class HasSource(Protocol):
    """A file of a script, as it is now."""

    @property
    def source(self) -> Source: ...


class OnItsWay(Protocol):
    """A script that was read and for which it was decided what becomes of it; `files` are it and its modules."""

    @property
    def path(self) -> Path: ...
    @property
    def files(self) -> Sequence[HasSource]: ...


Script = TypeVar("Script", bound=OnItsWay)
Prepare = Callable[[Path], Script]
Decide = Callable[[Path, Sequence[Script]], ChangeSet]


@dataclass(frozen=True)
class PassedOver:
    """A script of the call with which nothing is done by itself: it was refused, or goes `with_script`."""

    path: Path
    refusal: Refusal | None = None
    with_script: Path | None = None
    message: str = ""


@dataclass(frozen=True)
class Settled(Generic[Script]):
    """All scripts of a call and all changes, written or only decided."""

    scripts: tuple[Script, ...]
    passed: tuple[PassedOver, ...]
    changes: tuple[FileChange, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Stopped:
    """The script on account of which none was touched."""

    path: Path
    refusal: Refusal


class _Stop(Exception):
    def __init__(self, stopped: Stopped) -> None:
        super().__init__(str(stopped.refusal))
        self.stopped = stopped


@contextlib.contextmanager
def _on_account_of(path: Path) -> Iterator[None]:
    try:
        yield
    except Refusal as refusal:
        raise _Stop(Stopped(path, refusal)) from None


def settle(
    named: Scripts, prepare: Prepare[Script], decide: Decide[Script], *, write: bool
) -> Settled[Script] | Stopped:
    """Prepare each script, decide the changes of each folder, and with `write` make them."""
    try:
        with _on_account_of(named.paths[0]), exclusive(named.paths) if write else contextlib.nullcontext():
            prepared, passed = _prepared(named, prepare)
            scripts, together = _apart(prepared) if named.has_folder else (prepared, [])
            sets: list[ChangeSet] = []
            for folder in dict.fromkeys(script_home(script.path)[0] for script in scripts):
                inside = [script for script in scripts if script_home(script.path)[0] == folder]
                with _on_account_of(inside[0].path):
                    sets.append(decide(folder, inside))
                    if write:
                        sweep(folder)
            changes = tuple(change for found in sets for change in found.changes)
            if write:
                write_changes(changes)
    except _Stop as stop:
        return stop.stopped
    notes = tuple(note for found in sets for note in found.notes)
    return Settled(tuple(scripts), (*_with_scripts(passed, scripts), *together), changes, notes)


def _with_scripts(passed: Sequence[PassedOver], scripts: Sequence[Script]) -> list[PassedOver]:
    """What was passed over, with the script for those that a script is patched together with."""
    reached = {file.source.path.resolve(): script.path for script in scripts for file in script.files[1:]}
    return [
        replace(item, refusal=None, with_script=reached[item.path.resolve()])
        if isinstance(item.refusal, NotCalled) and item.path.resolve() in reached
        else item
        for item in passed
    ]


def _prepared(named: Scripts, prepare: Prepare[Script]) -> tuple[list[Script], list[PassedOver]]:
    scripts: list[Script] = []
    passed: list[PassedOver] = []
    for path in named.paths:
        with _on_account_of(path):
            try:
                scripts.append(prepare(path))
            except Refusal as refusal:
                if not named.passes(path, refusal):
                    raise
                passed.append(PassedOver(path, refusal))
    return scripts, passed


def _apart(scripts: Sequence[Script]) -> tuple[list[Script], list[PassedOver]]:
    """The scripts that were found in a folder without those that are patched together with another one.

    A module is patched with the script that imports it. Where what is imported is a program itself, it is the other
    way round: the program is patched as the script that it is, and what only borrows from it needs nothing.
    """
    by_path = {script.path.resolve(): script for script in scripts}
    together: dict[Path, PassedOver] = {}
    for script in scripts:
        reached = [by_path[path] for file in script.files[1:] if (path := file.source.path.resolve()) in by_path]
        programs = [other.path for other in reached if is_program(other.files[0].source)]
        if programs:
            message = f"imports {programs[0]}, where the loss is called"
            together[script.path] = PassedOver(script.path, message=message)
        for other in () if programs else reached:
            message = f"together with {script.path}, which imports it"
            together.setdefault(other.path, PassedOver(other.path, with_script=script.path, message=message))
    return [script for script in scripts if script.path not in together], [*together.values()]

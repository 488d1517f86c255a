"""The loss modules in `energy_losses/`: which are needed, written anew, left alone or cleared away."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from pathlib import Path
from typing import NamedTuple

from energy_patch.files.folder import FolderState
from energy_patch.files.templates import module_closure, template_bytes, template_names
from energy_patch.files.transaction import FileChange
from energy_patch.record.schema import ScriptEntry
from energy_patch.refusal import Refusal
from energy_patch.strategies.base import FOLDER_NAME


class Leftovers(NamedTuple):
    """Modules that nothing needs: removals of those that are as they were copied, and the names of edited ones."""

    removals: tuple[FileChange, ...]
    edited: frozenset[str]

    @property
    def notes(self) -> tuple[str, ...]:
        return tuple(
            f"{FOLDER_NAME}/{name} was edited since it was copied, so it is kept; delete it if you wish"
            for name in sorted(self.edited)
        )


def modules_of(entries: Iterable[ScriptEntry]) -> frozenset[str]:
    """The modules that scripts need, with all that today's versions of these import.

    A module that this version of the tool does not know stands for itself.
    """
    named = {module for entry in entries for module in entry.modules}
    return frozenset(named | set(module_closure(named & template_names()))) if named else frozenset()


def refuse_edited(state: FolderState, needed: Collection[str]) -> None:
    """Refuse to overwrite a module that the user edited.

    Raises:
        Refusal: `conflict`.
    """
    edited = sorted(name for name in needed if name in state.modules and state.modules[name].edited)
    if edited:
        names = ", ".join(f"{FOLDER_NAME}/{name}" for name in edited)
        were = "was" if len(edited) == 1 else "were"
        raise Refusal(
            "conflict",
            f"{names} {were} edited since apply and would be overwritten; "
            "move your version elsewhere (or delete it) and run again",
        )


def module_writes(state: FolderState, ours: Path, names: Collection[str]) -> dict[str, FileChange]:
    """The modules as they should be; a copy whose line ends git converted, or that was formatted, is left as it is."""
    writes: dict[str, FileChange] = {}
    for name in sorted(names):
        module = state.modules.get(name)
        if module is not None and module.edited:
            continue
        before = module.raw if module else None
        writes[name] = FileChange(ours / name, before, before if module and module.current else template_bytes(name))
    return writes


def leftovers(state: FolderState, ours: Path, needed: Collection[str]) -> Leftovers:
    """What lies in `energy_losses/` and is not needed."""
    others = {name: module for name, module in sorted(state.modules.items()) if name not in needed}
    removals = (FileChange(ours / name, module.raw, None) for name, module in others.items() if not module.edited)
    return Leftovers(tuple(removals), frozenset(name for name, module in others.items() if module.edited))

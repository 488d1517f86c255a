"""Facts and a strategy make a Plan: edits, files and notes, nothing written yet."""

from __future__ import annotations

from dataclasses import dataclass

from energy_patch.edits import Edit
from energy_patch.source import Source

Value = str | int | float


@dataclass(frozen=True)
class PlannedEdit:
    """One edit and what it does, in words for a person.

    `tunable` marks an edit whose value (a config field's default, a literal at the call) the user may change
    afterwards without the patch ceasing to be ours.
    """

    edit: Edit
    title: str
    tunable: bool = False


@dataclass(frozen=True)
class Plan:
    """All that `apply` will do to one script.

    `names` are the identifiers that the patch brings into the script; `modules` are file names in
    `templates/energy_losses/`.
    """

    source: Source
    strategy: str
    options: dict[str, Value]
    edits: tuple[PlannedEdit, ...]
    modules: tuple[str, ...]
    names: tuple[str, ...]
    notes: tuple[str, ...] = ()

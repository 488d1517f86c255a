"""What `apply` will do to one file: its edits with what each does, nothing written yet."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from energy_patch.rewrite.edits import Edit, apply_edits
from energy_patch.strategies.base import Value
from energy_patch.syntax.source import Source


@dataclass(frozen=True)
class PlannedEdit:
    """One edit and what it does, in words for a person.

    `tunable` marks an edit whose value (a config field's default, a literal at the call) the user may change
    afterwards without the patch ceasing to be ours; `holds` maps names in it to the options that they are the value of,
    and `owner` is the function that these are parameters of.
    """

    edit: Edit
    title: str
    tunable: bool = False
    holds: Mapping[str, str] = field(default_factory=dict)
    owner: str = ""


@dataclass(frozen=True)
class Plan:
    """All that `apply` will do to one script.

    `options` are those that were given, to be recorded; `names` are the identifiers that the patch brings into the
    script; `modules` are file names in `templates/energy_losses/`; `loss` is the new loss as `module.function` of that
    folder, empty where the original stays.
    """

    source: Source
    strategy: str
    options: dict[str, Value]
    edits: tuple[PlannedEdit, ...]
    modules: tuple[str, ...]
    names: tuple[str, ...]
    notes: tuple[str, ...] = ()
    loss: str = ""

    @property
    def patched_text(self) -> str:
        return apply_edits(self.source.text, [planned.edit for planned in self.edits])

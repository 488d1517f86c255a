"""A plan in the making: what the kinds of edits share, and hand on to each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

from energy_patch.locate.facts import Call, Facts
from energy_patch.refusal import Refusal, renumbered
from energy_patch.rewrite.edits import Edit
from energy_patch.rewrite.passed import PassedTemperatures
from energy_patch.rewrite.plan import Plan, PlannedEdit
from energy_patch.strategies.base import Choice, Option, Strategy, Value
from energy_patch.syntax.source import LINE_END, Source


@dataclass(frozen=True)
class NewParameter:
    """A parameter through which a function is handed a config field, its default and its type.

    `option` is the one that it holds the value of, empty where the field is the user's own.
    """

    name: str
    default: str
    annotation: str
    option: str = ""


@dataclass
class Draft:
    """The edits of one file so far.

    `imports` maps the modules of `energy_losses` to what is imported from each; `new_fields` are config fields by name
    with the options that they hold and their values; `parameters` are those that each function, by its line, needs to
    hand config fields on, by the field's name. `passed` are the temperatures that the calls of the run, in this file
    and others, pass by themselves. `distributed_import` is the name of `torch.distributed` where the script
    lacks an import of it.
    """

    facts: Facts
    strategy: Strategy
    choice: Choice
    replicates: bool
    passed: PassedTemperatures
    edits: list[PlannedEdit] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    names: set[str] = field(default_factory=set)
    imports: dict[str, set[str]] = field(default_factory=dict)
    new_fields: dict[str, tuple[Option, str]] = field(default_factory=dict)
    parameters: dict[int, dict[str, NewParameter]] = field(default_factory=dict)
    distributed_import: str | None = None

    @property
    def source(self) -> Source:
        return self.facts.source

    def add(
        self,
        edit: Edit,
        title: str,
        *,
        tunable: bool = False,
        holds: Mapping[str, str] | None = None,
        owner: str = "",
    ) -> None:
        self.edits.append(PlannedEdit(edit, title, tunable, holds or {}, owner))

    def note(self, text: str) -> None:
        """Something that a person should know, once."""
        if text not in self.notes:
            self.notes.append(text)

    def imported(self, module: str, name: str) -> str:
        """The name to call an imported function by; another one where the script uses its own for something."""
        local = free_name(name, self.facts.identifiers, f"patched_{name}")
        imported = name if local == name else f"{name} as {local}"
        self.imports.setdefault(f"{self.facts.package}.{module}", set()).add(imported)
        self.names.add(local)
        return local

    def parameter(self, call: Call, field_name: str, wanted: NewParameter) -> str:
        """The parameter through which the function around a call is handed a config field."""
        assert call.enclosing is not None
        parameters = self.parameters.setdefault(call.enclosing.line, {})
        if field_name not in parameters:
            has_it = call.enclosing.parameter(wanted.name) is not None
            name = wanted.name if has_it else free_name(wanted.name, call.occupied)
            default = self.choice.parameters.get((call.enclosing.name, wanted.option), wanted.default)
            parameters[field_name] = replace(wanted, name=name, default=default)
        return parameters[field_name].name

    def plan(self, recorded: dict[str, Value]) -> Plan:
        """The finished plan; `recorded` is what to remember of the options.

        Raises:
            Refusal: `unsupported`, where a call that changes stands among the arguments of another that does.
        """
        edits = sorted(self.edits, key=_place)
        self._refuse_nested(edits)
        modules = {f"{module.rpartition('.')[2]}.py" for module in self.imports}
        return Plan(
            source=self.source,
            strategy=self.strategy.name,
            options=recorded,
            edits=tuple(edits),
            modules=tuple(sorted(modules)),
            names=tuple(sorted(self.names)),
            notes=tuple(renumbered(note, self._line_after) for note in self.notes),
            loss=self.strategy.loss,
        )

    def _refuse_nested(self, edits: Sequence[PlannedEdit]) -> None:
        for outer, inner in pairwise(planned.edit for planned in edits):
            if inner.start < outer.end:
                message = (
                    f"this call stands among the arguments of the one on line {self.source.line_of(outer.start)}, and "
                    "both have to change; compute it on a line of its own above that one and run again"
                )
                raise Refusal("unsupported", message, line=self.source.line_of(inner.start))

    def _line_after(self, line: int) -> int:
        """The line in the patched script of a line of the original."""
        offset = self.source.line_starts[line - 1]
        before = [planned.edit for planned in self.edits if planned.edit.start <= offset and planned.edit.end <= offset]
        replaced = (LINE_END.findall(self.source.text, edit.start, edit.end) for edit in before)
        return line + sum(len(LINE_END.findall(edit.text)) for edit in before) - sum(map(len, replaced))


def _place(planned: PlannedEdit) -> tuple[int, int, int, bool]:
    """The order of edits; of whole lines at one place, those that end a deeper block first, and imports before use."""
    edit = planned.edit
    line = edit.text.lstrip("\r\n")
    code = line.lstrip(" \t")
    indent = len(line) - len(code) if edit.start == edit.end else 0
    return edit.start, edit.end, -indent, not code.startswith(("import ", "from "))


def free_name(name: str, taken: frozenset[str], fallback: str = "") -> str:
    """The name itself, or one like it that is not taken."""
    candidates = [name, *([fallback] if fallback else []), f"infonce_{name}"]
    candidates += [f"infonce_{name}_{number}" for number in range(2, 100)]
    return next(candidate for candidate in candidates if candidate not in taken)

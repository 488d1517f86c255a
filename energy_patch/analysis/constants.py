"""Values that are written out in a program: numbers, strings, None and truth values, through names and settings."""

from __future__ import annotations

from dataclasses import dataclass

import libcst as cst

from energy_patch.analysis.aliases import Aliases
from energy_patch.analysis.settings import Settings
from energy_patch.syntax.scopes import Scope

NAMED: dict[str, bool | None] = {"None": None, "True": True, "False": False}


@dataclass(frozen=True)
class Constant:
    """A value that is written out."""

    value: float | str | bool | None

    @property
    def number(self) -> float | None:
        is_number = isinstance(self.value, float) and not isinstance(self.value, bool)
        return self.value if is_number else None  # type: ignore[return-value]


def literal(node: cst.CSTNode) -> Constant | None:
    """The value of a literal, a signed number too; None for anything else."""
    match node:
        case cst.Float() | cst.Integer():
            return Constant(float(node.evaluated_value))
        case cst.UnaryOperation(operator=cst.Minus(), expression=cst.Float() | cst.Integer() as inner):
            return Constant(-float(inner.evaluated_value))
        case cst.SimpleString() if isinstance(node.evaluated_value, str):
            return Constant(node.evaluated_value)
        case cst.Name() if node.value in NAMED:
            return Constant(NAMED[node.value])
    return None


class Constants:
    """Follows an expression back to the one value that it has, if that is written out."""

    def __init__(self, aliases: Aliases, settings: Settings) -> None:
        self.aliases = aliases
        self.settings = settings

    def value(self, node: cst.BaseExpression, scope: Scope) -> Constant | None:
        """The value that is written out, or that a settings' field, a parameter or a constant has by default."""
        values: set[Constant | None] = set()
        for part in self.aliases.made_from(node, scope, lambda _: []):
            field = self.settings.read_by(part)
            if field is not None:
                values.add(Constant(field.number) if field.number is not None else None)
            else:
                values.add(literal(part))
        return values.pop() if len(values) == 1 else None

    def number(self, node: cst.BaseExpression, scope: Scope) -> float | None:
        found = self.value(node, scope)
        return found.number if found is not None else None

"""The fields of the class that holds a script's settings, also where another file defines it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import libcst as cst

from energy_patch.analysis.functions import is_none
from energy_patch.analysis.program import Program
from energy_patch.syntax.nodes import called_name, dotted_name, last_name


@dataclass(frozen=True)
class Field:
    """One setting; `default` as it is written, empty where there is none."""

    name: str
    default: str
    node: cst.AnnAssign

    @property
    def number(self) -> float | None:
        try:
            return float(self.default.replace("_", ""))
        except ValueError:
            return None

    @property
    def count(self) -> int | None:
        """The default where it is a positive whole number."""
        text = self.default.replace("_", "")
        return int(text) if text.isdecimal() and int(text) > 0 else None


class Settings:
    """The dataclass that the script's functions take or make; of several, the one with the most fields."""

    def __init__(self, program: Program) -> None:
        self.program = program

    @cached_property
    def fields(self) -> tuple[Field, ...]:
        classes = {*self._made(), *self._annotated()}
        found = [tuple(self._fields(node)) for node in classes if self._is_dataclass(node)]
        return max(found, key=len, default=())

    def field(self, name: str) -> Field | None:
        return next((item for item in self.fields if item.name == name), None)

    def read_by(self, node: cst.CSTNode) -> Field | None:
        """The field that an expression like `cfg.lr` or `self.cfg.lr` reads, by its name."""
        is_field = isinstance(node, cst.Attribute) and dotted_name(node.value) != "self"
        return self.field(node.attr.value) if is_field else None  # type: ignore[attr-defined]

    def _made(self) -> Iterator[cst.ClassDef]:
        for call, scope in self.program.calls:
            for node in (call.func, *(argument.value for argument in call.args)):
                meaning = self.program.meaning(node, scope)
                if isinstance(meaning, cst.ClassDef):
                    yield meaning

    def _annotated(self) -> Iterator[cst.ClassDef]:
        for node, scope in [*self.program.scopes.items()]:
            if not isinstance(node, cst.Annotation):
                continue
            for part in _alternatives(node.annotation):
                if isinstance(meaning := self.program.meaning(part, scope), cst.ClassDef):
                    yield meaning

    def _is_dataclass(self, node: cst.ClassDef) -> bool:
        return any(called_name(item.decorator) == "dataclass" for item in node.decorators)

    def _fields(self, node: cst.ClassDef) -> Iterator[Field]:
        for statement in node.body.body:
            for part in statement.body if isinstance(statement, cst.SimpleStatementLine) else ():
                if isinstance(part, cst.AnnAssign) and isinstance(part.target, cst.Name):
                    default = self.program.text(part.value) if part.value is not None else ""
                    yield Field(part.target.value, default, part)


def _alternatives(node: cst.BaseExpression) -> Iterator[cst.BaseExpression]:
    """`C` in `C`, `Optional[C]` and `C | None`."""
    if isinstance(node, cst.BinaryOperation):
        yield from (part for part in (node.left, node.right) if not is_none(part))
    elif isinstance(node, cst.Subscript) and last_name(node.value) == "Optional":
        yield from (item.slice.value for item in node.slice if isinstance(item.slice, cst.Index))
    else:
        yield node

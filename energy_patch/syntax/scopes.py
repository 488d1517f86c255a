"""Lexical scopes by Python's rules, with every binding of a name and the value that it is given.

LibCST's own `ScopeProvider` does not serve here: it keeps no bound value, and it does not enter `match` statements.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import libcst as cst

BindingKind = Literal["import", "assign", "augment", "parameter", "function", "class", "loop", "other"]

Comprehension = (cst.ListComp, cst.SetComp, cst.DictComp, cst.GeneratorExp)


@dataclass(frozen=True)
class Binding:
    """One place that gives a name its value; `value` is the bound expression where there is one."""

    kind: BindingKind
    node: cst.CSTNode
    value: cst.BaseExpression | None = None


@dataclass(eq=False)
class Scope:
    """A lexical scope: its bindings in source order, and the names that it declares global or nonlocal, or deletes."""

    node: cst.CSTNode
    parent: Scope | None
    bindings: dict[str, list[Binding]] = field(default_factory=dict)
    declared_outer: dict[str, Literal["global", "nonlocal"]] = field(default_factory=dict)
    deleted: set[str] = field(default_factory=set)

    @property
    def is_class(self) -> bool:
        return isinstance(self.node, cst.ClassDef)

    def bind(self, name: str, binding: Binding) -> None:
        self.bindings.setdefault(name, []).append(binding)

    def owner(self, name: str) -> Scope | None:
        """The scope that `name` means from here, by Python's rules; None for builtins and unbound names."""
        scope: Scope | None = self
        while scope is not None:
            if scope.declared_outer.get(name) == "global":
                while scope.parent is not None:
                    scope = scope.parent
                return scope if name in scope.bindings else None
            hidden = scope.is_class and scope is not self
            if name in scope.bindings and name not in scope.declared_outer and not hidden:
                return scope
            scope = scope.parent
        return None

    def resolve(self, name: str) -> list[Binding]:
        owner = self.owner(name)
        return owner.bindings[name] if owner else []

    def function(self) -> Scope:
        """The nearest scope that holds statements: a function's or the module's."""
        scope = self
        while scope.parent and not isinstance(scope.node, cst.FunctionDef | cst.Module):
            scope = scope.parent
        return scope

    def enclosing_class(self) -> Scope | None:
        scope: Scope | None = self
        while scope is not None and not scope.is_class:
            scope = scope.parent
        return scope

"""The names of a program's values: variables, attributes of an object, parameters; and what gives each its value."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import libcst as cst

from energy_patch.analysis.calls import CallGraph
from energy_patch.analysis.program import Program
from energy_patch.syntax.nodes import dotted_name
from energy_patch.syntax.scopes import Binding, Scope
from energy_patch.syntax.tree import Tree


@dataclass(frozen=True)
class Ref:
    """One name of a value: a variable of a scope, or an attribute of a class's instances (`self.x` of its scope)."""

    scope: Scope
    name: str


@dataclass(frozen=True)
class Origin:
    """An expression that a value may come from; `place` is the element of it that counts, of a tuple."""

    node: cst.BaseExpression
    scope: Scope
    place: int | None = None


class Refs:
    """Every name in a program, where it stands, and its origins."""

    def __init__(self, graph: CallGraph) -> None:
        self.graph = graph
        self.program = graph.program
        self._variables: dict[Ref, Ref] = {}

    def ref(self, node: cst.CSTNode, scope: Scope) -> Ref | None:
        """The name that an expression is: `x`, `self.x`, or either with `.module` behind it.

        A name that is imported from a file in sight is that file's own.
        """
        name = (dotted_name(node) or "").removesuffix(".module")
        first, _, rest = name.partition(".")
        owner = scope.owner(first) if first else None
        if owner is None or "." in rest:
            return None
        if not rest:
            return self._variable(owner, first)
        inner = cst.ensure_type(_innermost(node), cst.Name)
        if isinstance(module := self.program.meaning(inner, scope), Tree):
            return Ref(module.root, rest) if rest in module.root.bindings else None
        holder = self.program.class_of(inner, scope)
        return Ref(self.program.inside(holder), f"self.{rest}") if holder is not None else None

    def _variable(self, owner: Scope, name: str) -> Ref:
        ref = Ref(owner, name)
        if ref not in self._variables:
            bindings = owner.bindings.get(name, [])
            source = self.program.imported(bindings[0], owner) if len(bindings) == 1 else None
            is_there = source is not None and source[1] in source[0].root.bindings
            self._variables[ref] = Ref(source[0].root, source[1]) if source is not None and is_there else ref
        return self._variables[ref]

    @cached_property
    def nodes(self) -> dict[Ref, list[cst.CSTNode]]:
        """Where each name stands."""
        found: dict[Ref, list[cst.CSTNode]] = {}
        for node, scope in [*self.program.names, *self.program.attributes]:
            if (ref := self.ref(node, scope)) is not None:
                found.setdefault(ref, []).append(node)
        return found

    @cached_property
    def attributes(self) -> dict[Ref, list[Origin | None]]:
        """What is assigned to attributes of objects whose class is in sight."""
        found: dict[Ref, list[Origin | None]] = {}
        for target, value, scope in assignments(self.program):
            parts = target.elements if isinstance(target, cst.Tuple | cst.List) else ()
            for place, part in [(None, target), *((i, item.value) for i, item in enumerate(parts))]:
                if isinstance(part, cst.Attribute) and (ref := self.ref(part, scope)) is not None:
                    found.setdefault(ref, []).append(element_of(value, scope, place))
        return found

    def origins(self, ref: Ref) -> list[Origin | None]:
        """What gives a name its value; None for each that cannot be told."""
        if "." in ref.name:
            return self.attributes.get(ref, [None])
        found: list[Origin | None] = []
        for binding in ref.scope.bindings.get(ref.name, []):
            if isinstance(binding.node, cst.Param) and isinstance(ref.scope.node, cst.FunctionDef):
                found += self._passed(ref.scope.node, binding.node)
            elif binding.kind in ("assign", "augment") and binding.value is not None:
                found.append(element_of(binding.value, ref.scope, _place_in_target(binding, ref.name)))
            else:
                found.append(None)
        return found or [None]

    def _passed(self, function: cst.FunctionDef, parameter: cst.Param) -> list[Origin | None]:
        """What calls pass for a parameter, and its default where one of them leaves it out; None if nobody calls."""
        passed = self.graph.passed(function, parameter.name.value)
        found: list[Origin | None] = [Origin(value, at) for value, at in passed]
        if parameter.default is not None and len(passed) < len(self.graph.callers(function)):
            found.append(Origin(parameter.default, self.program.scopes[parameter]))
        return found or [None]


def assignments(program: Program) -> Iterator[tuple[cst.BaseExpression, cst.BaseExpression, Scope]]:
    """Every target that is assigned a value, with the value and the scope."""
    for node, scope in [*program.scopes.items()]:
        if isinstance(node, cst.Assign | cst.AnnAssign) and node.value is not None:
            for target in [item.target for item in node.targets] if isinstance(node, cst.Assign) else [node.target]:
                yield target, node.value, scope


def _innermost(node: cst.CSTNode) -> cst.CSTNode:
    while isinstance(node, cst.Attribute):
        node = node.value
    return node


def element_of(value: cst.BaseExpression, scope: Scope, place: int | None) -> Origin | None:
    """A value, or one element of it: of a tuple that is written out, that very element."""
    if place is None or not isinstance(value, cst.Tuple | cst.List):
        return Origin(value, scope, place)
    if place >= len(value.elements) or any(isinstance(item, cst.StarredElement) for item in value.elements):
        return None
    return Origin(value.elements[place].value, scope)


def _place_in_target(binding: Binding, name: str) -> int | None:
    for item in binding.node.targets if isinstance(binding.node, cst.Assign) else ():
        if isinstance(item.target, cst.Tuple | cst.List):
            for place, element in enumerate(item.target.elements):
                if isinstance(element.value, cst.Name) and element.value.value == name:
                    return place
    return None

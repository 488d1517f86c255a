"""What a script does to all fields of a class at once, so that a field more would break it or change it."""

from __future__ import annotations

from functools import cached_property

import libcst as cst

from energy_patch.locate.callers import first_parameter
from energy_patch.locate.config_classes import bases, subclasses
from energy_patch.locate.instances import Instances
from energy_patch.syntax.nodes import called_name, children, descendants, last_name
from energy_patch.syntax.scopes import Comprehension
from energy_patch.syntax.tree import Tree


class Meaning:
    """Answers what means an instance of a class, by the names and attributes that are given one."""

    def __init__(self, instances: Instances) -> None:
        self._instances = instances
        tree, node = instances.tree, instances.node
        self._family = [node, *bases(tree, node), *subclasses(tree, node)]

    def instance(self, value: cst.BaseExpression) -> bool:
        """Whether an expression is an instance, in a method also `self`; the class itself and `cls` count too."""
        if last_name(value) in self._names:
            return True
        scope = self._instances.tree.scopes[value].function()
        is_own = scope.parent is not None and scope.parent.node in self._family
        return is_own and isinstance(value, cst.Name) and value.value == first_parameter(scope, or_class=True)

    @cached_property
    def _names(self) -> frozenset[str]:
        return self._instances.names | {self._instances.name, *self._attributes()}

    def _attributes(self) -> set[str]:
        found = set()
        for attribute, _ in self._instances.tree.attributes:
            statement = self._instances.tree.parents[attribute]
            if isinstance(statement, cst.AssignTarget):
                statement = self._instances.tree.parents[statement]
            if isinstance(statement, cst.Assign | cst.AnnAssign) and self._instances.is_made(statement.value):
                found.add(attribute.attr.value)
        return found


def is_taken_apart(tree: Tree, means: Meaning) -> bool:
    """Whether a field more would come where the script expects those that it knows."""
    for call, _ in tree.calls:
        kind = called_name(call.func)
        if kind not in ("astuple", "fields", "vars", "asdict") or len(call.args) != 1:
            continue
        value = call.args[0].value
        if isinstance(value, cst.Call) and called_name(value.func) == "type" and value.args:
            value = value.args[0].value
        if not means.instance(value):
            continue
        walked = _walked(tree, call)
        taken = tree.parents[call]
        is_values = isinstance(taken, cst.Attribute) and taken.attr.value == "values"
        if kind == "astuple" or (walked is None and is_values):
            return True
        if walked is None:
            continue
        loops = [node for node in descendants(walked) if isinstance(node, cst.For | cst.CompFor)]
        values = {_value_name(loop, is_values=is_values) for loop in loops} if kind != "fields" else None
        if _needs_known_fields(walked, values):
            return True
    return False


def _walked(tree: Tree, iterated: cst.CSTNode) -> cst.CSTNode | None:
    """The loop or comprehension that runs over something."""
    child = iterated
    for ancestor in tree.ancestors(iterated):
        if isinstance(ancestor, cst.For | cst.CompFor) and child is ancestor.iter:
            is_loop = isinstance(ancestor, cst.For)
            return ancestor if is_loop else next(i for i in tree.ancestors(ancestor) if isinstance(i, Comprehension))
        if isinstance(ancestor, (cst.BaseStatement, *Comprehension)):
            return None
        child = ancestor
    return None


def _needs_known_fields(walked: cst.CSTNode, values: set[str] | None) -> bool:
    """Whether a walk over fields does with each what may not be done with a new one; one that looks first does not.

    `values` are the names that it gives the fields' values, None where it is given the fields themselves.
    """
    nodes = [*descendants(walked)]
    if any(isinstance(node, cst.In | cst.NotIn) for node in nodes):
        return False
    called = {called_name(node.func) for node in nodes if isinstance(node, cst.Call)}
    if called & {"isinstance", "hasattr", "is_tensor"}:
        return False
    stored = {node.target for node in nodes if isinstance(node, cst.AssignTarget)}
    return "setattr" in called or any(_uses_value(node, values) for node in nodes if node not in stored)


def _value_name(loop: cst.For | cst.CompFor, *, is_values: bool) -> str:
    """The name that a walk over a dictionary gives the values: `v` of `k, v`."""
    if isinstance(loop.target, cst.Tuple):
        return last_name(loop.target.elements[-1].value)
    return last_name(loop.target) if is_values else ""


def _uses_value(node: cst.CSTNode, values: set[str] | None) -> bool:
    """Whether a field's value is computed with, or something else is looked up by a field's name."""
    if isinstance(node, cst.Subscript):
        return values is None and any(
            isinstance(part, cst.Attribute) and part.attr.value == "name" for part in descendants(node)
        )
    operands = [*children(node)] if isinstance(node, cst.BinaryOperation) else []
    operands += [node.value] if isinstance(node, cst.Attribute) else []
    return any(
        (isinstance(item, cst.Call) and called_name(item.func) == "getattr")
        or last_name(item) in (values or set()) - {""}
        for item in operands
    )

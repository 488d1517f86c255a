"""Which names hold plain values only: numbers, texts and flags that are written in the file, and places in lists."""

from __future__ import annotations

import libcst as cst

from energy_patch.locate.callers import Callers, argument_for, first_parameter
from energy_patch.syntax.nodes import called_name, is_target
from energy_patch.syntax.scopes import Binding, Scope
from energy_patch.syntax.tree import Tree

Seen = frozenset[cst.CSTNode]


class PlainValues:
    """Answers about the names and expressions of one tree; what cannot be told is not plain."""

    def __init__(self, tree: Tree, callers: Callers) -> None:
        self._tree = tree
        self._callers = callers

    def is_plain(self, node: cst.CSTNode, seen: Seen = frozenset()) -> bool:
        """Whether an expression is a plain value, or a name, parameter or attribute of `self` given no other."""
        match node:
            case cst.BaseNumber() | cst.SimpleString() | cst.Name(value="True" | "False" | "None"):
                return True
            case cst.UnaryOperation():
                return self.is_plain(node.expression, seen)
            case cst.Tuple() | cst.List() | cst.Set():
                return all(self.is_plain(element.value, seen) for element in node.elements)
        scope = self._tree.scopes.get(node)
        if scope is None or node in seen:
            return False
        if isinstance(node, cst.Name):
            bindings = scope.resolve(node.value)
            return bool(bindings) and all(self._binds(item, node.value, seen | {node}) for item in bindings)
        return isinstance(node, cst.Attribute) and self._holds(node, scope, seen | {node})

    def _binds(self, binding: Binding, name: str, seen: Seen) -> bool:
        match binding.node:
            case cst.Assign() | cst.AnnAssign() | cst.NamedExpr() | cst.AugAssign():
                return binding.value is not None and self.is_plain(binding.value, seen)
            case cst.For(target=target, iter=values) | cst.CompFor(target=target, iter=values):
                return self._goes_over(target, values, name, seen)
            case cst.Param() as parameter:
                return self._is_passed(parameter, seen)
        return False

    def _goes_over(self, target: cst.BaseExpression, values: cst.BaseExpression, name: str, seen: Seen) -> bool:
        """`for rank, action in enumerate(best)`, `for rank in range(4)`, `for primary in (True, False)`."""
        match values, target:
            case cst.Call(func=cst.Name(value="enumerate")), cst.Tuple(elements=[first, *_]):
                return isinstance(first.value, cst.Name) and first.value.value == name
            case cst.Call(func=cst.Name(value="range")), _:
                return all(self.is_plain(item.value, seen) or called_name(item.value) == "len" for item in values.args)
        return self.is_plain(values, seen)

    def _is_passed(self, parameter: cst.Param, seen: Seen) -> bool:
        """Whether a function that only this file calls is given plain values for a parameter."""
        function = self._tree.parents[self._tree.parents[parameter]]
        if not isinstance(function, cst.FunctionDef) or parameter.star or not self._callers.is_transparent(function):
            return False
        calls, mentions = self._callers.uses_of_function(function)
        if not calls or mentions or any(argument.star for call, _ in calls for argument in call.args):
            return False
        is_method = self._callers.takes_self(function)
        passed = (argument_for(function, call, parameter.name.value, is_method=is_method) for call, _ in calls)
        values = [value or parameter.default for value in passed]
        return all(value is not None and self.is_plain(value, seen) for value in values)

    def _holds(self, node: cst.Attribute, scope: Scope, seen: Seen) -> bool:
        """Whether an attribute of `self` is given plain values only, each in a statement of this class."""
        owner = scope.enclosing_class()
        if owner is None or node.attr.value in owner.bindings or not isinstance(node.value, cst.Name):
            return False
        if node.value.value != first_parameter(scope.function()):
            return False
        values = [value for value, _ in self._callers.self_attributes(owner).get(node.attr.value, [])]
        named = [item for item, _ in self._tree.attributes if item.attr.value == node.attr.value]
        targets = [item for item in named if is_target(item, self._tree.ancestors(item))]
        is_all = 0 < len(values) == len(targets)
        return is_all and all(value is not None and self.is_plain(value, seen) for value in values)

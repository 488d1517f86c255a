"""Who calls a function, and what they pass; what a class's methods assign to its instances."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import libcst as cst

from energy_patch.locate.config_classes import bases
from energy_patch.syntax.nodes import all_parameters, called_name, descendants, dotted_name
from energy_patch.syntax.scopes import Scope
from energy_patch.syntax.tree import Tree

Use = tuple[cst.Call, Scope]
Assigned = tuple[cst.BaseExpression | None, Scope]

# Decorators that hand on whatever keyword arguments they are given.
TRANSPARENT = frozenset(
    {"no_grad", "enable_grad", "inference_mode", "set_grad_enabled", "autocast", "custom_fwd", "compile", "record"}
    | {"staticmethod", "classmethod", "contextmanager", "asynccontextmanager", "override", "final", "abstractmethod"}
)


class Callers:
    """Answers about the functions of one tree."""

    def __init__(self, tree: Tree) -> None:
        self.tree = tree

    def uses_of_function(self, node: cst.FunctionDef) -> tuple[list[Use], list[cst.CSTNode]]:
        """Calls that can only mean this function, and other mentions of it (passed around, wrapped)."""
        name = node.name.value
        scope = self.tree.scopes[node]
        is_method = scope.is_class
        calls: list[Use] = []
        callees: set[cst.CSTNode] = set()
        for call, at in self.tree.calls:
            if called_name(call.func) != name:
                continue
            if is_method:
                matches = isinstance(call.func, cst.Attribute) and self._is_method(call.func, at, scope, name)
            else:
                matches = isinstance(call.func, cst.Name) and self._means(call.func, at, node)
            if matches:
                calls.append((call, at))
                callees.add(call.func)
        mentions: list[cst.CSTNode] = []
        if is_method:
            mentions += [item for item, _ in self.tree.attributes if item.attr.value == name and item not in callees]
        else:
            mentions += [item for item, at in self.tree.names if item not in callees and self._means(item, at, node)]
        return calls, [item for item in mentions if not isinstance(self.tree.parents[item], cst.FunctionDef)]

    def _means(self, name: cst.Name, at: Scope, node: cst.FunctionDef) -> bool:
        bindings = at.resolve(name.value) if name.value == node.name.value else []
        return len(bindings) == 1 and bindings[0].node is node

    def _is_method(self, callee: cst.Attribute, at: Scope, owner: Scope, name: str) -> bool:
        """`self.name` in the class itself, or `x.name` where x was built from the class; overriding: neither."""
        if callee.attr.value != name or not isinstance(callee.value, cst.Name):
            return False
        defined = [scope for scope in self.tree.all_scopes if scope.is_class and name in scope.bindings]
        if len(defined) != 1:
            return False
        method = at.function()
        if method.parent is owner and callee.value.value == first_parameter(method, or_class=True):
            return True
        assert isinstance(owner.node, cst.ClassDef)
        bindings = at.resolve(callee.value.value)
        return bool(bindings) and all(
            isinstance(binding.value, cst.Call) and dotted_name(binding.value.func) == owner.node.name.value
            for binding in bindings
        )

    def passed(self, function: cst.FunctionDef, name: str) -> list[tuple[cst.BaseExpression, Scope]]:
        """What each call of a function in this file passes for one of its parameters; omitted ones left out."""
        passed = []
        for call, at in self.uses_of_function(function)[0]:
            value = argument_for(function, call, name, is_method=self.takes_self(function))
            if value is not None:
                passed.append((value, at))
        return passed

    def takes_self(self, function: cst.FunctionDef) -> bool:
        """Whether a call through an instance fills the first parameter."""
        return self.tree.scopes[function].is_class and "staticmethod" not in _decorator_names(function)

    def is_transparent(self, function: cst.FunctionDef) -> bool:
        """Whether its decorators hand a new keyword argument on: known ones, and those of this file with `**`."""
        for name in _decorator_names(function):
            bindings = self.tree.scopes[function].resolve(name)
            if name in TRANSPARENT:
                continue
            wrappers = [
                node
                for binding in bindings
                if isinstance(binding.node, cst.FunctionDef)
                for node in descendants(binding.node.body)
                if isinstance(node, cst.FunctionDef)
            ]
            if not wrappers or any(node.params.star_kwarg is None for node in wrappers):
                return False
        return True

    def self_attributes(self, owner: Scope) -> dict[str, list[Assigned]]:
        """Everything assigned to `self.NAME` in a class's methods."""
        assigned: dict[str, list[Assigned]] = {}
        for node in descendants(owner.node):
            if isinstance(node, cst.Assign):
                targets: list[cst.BaseExpression] = [target.target for target in node.targets]
                value: cst.BaseExpression | None = node.value
            elif isinstance(node, cst.AnnAssign | cst.AugAssign):
                targets, value = [node.target], node.value
            else:
                continue
            scope = self.tree.scopes[node]
            for target in targets:
                if isinstance(target, cst.Attribute) and dotted_name(target.value) == first_parameter(scope):
                    assigned.setdefault(target.attr.value, []).append((value, scope))
        return assigned

    def set_on_instances(self, owner: Scope, name: str) -> Iterator[Assigned]:
        """What is assigned to an attribute in derived classes or through a name: `trainer.cfg = ...`; None: unknown."""
        family = [owner, *self._derived(owner)]
        for attribute, at in self.tree.attributes:
            if attribute.attr.value != name or not self._is_instance(attribute.value, at, family):
                continue
            statement = self.tree.parents[attribute]
            if isinstance(statement, cst.AssignTarget):
                yield cst.ensure_type(self.tree.parents[statement], cst.Assign).value, at
            elif isinstance(statement, cst.AnnAssign | cst.AugAssign) and statement.target is attribute:
                yield statement.value, at
            elif isinstance(statement, cst.Element):
                if isinstance(self.tree.parents[self.tree.parents[statement]], cst.AssignTarget):
                    yield None, at
            elif isinstance(statement, cst.Del):
                yield None, at

    def _is_instance(self, value: cst.BaseExpression, at: Scope, family: Sequence[Scope]) -> bool:
        """Whether a name is `self` in one of some classes, or given an instance of one."""
        if not isinstance(value, cst.Name):
            return False
        method = at.function()
        if method.parent in family and value.value == first_parameter(method):
            return True
        names = [item.node.name.value for item in family if isinstance(item.node, cst.ClassDef)]
        return any(
            isinstance(binding.value, cst.Call) and called_name(binding.value) in names
            for binding in at.resolve(value.value)
        )

    def constructs_all(self, owner: Scope, name: str) -> bool:
        """Whether every derived class with a constructor of its own runs its base's, or sets the attribute itself."""
        for derived in self._derived(owner):
            for binding in derived.bindings.get("__init__", []):
                runs = any(
                    isinstance(node, cst.Call) and called_name(node) == "__init__" for node in descendants(binding.node)
                )
                if not runs and name not in self.self_attributes(derived):
                    return False
        return True

    def _derived(self, owner: Scope) -> Iterator[Scope]:
        for scope in self.tree.all_scopes:
            if isinstance(scope.node, cst.ClassDef) and owner.node in [*bases(self.tree, scope.node)]:
                yield scope


def argument_for(function: cst.FunctionDef, call: cst.Call, name: str, *, is_method: bool) -> cst.BaseExpression | None:
    """The expression that a call passes for a parameter, or None where it is omitted or cannot be told."""
    for argument in call.args:
        if argument.keyword is not None and argument.keyword.value == name:
            return argument.value
    positional = [item.name.value for item in [*function.params.posonly_params, *function.params.params]]
    positional = positional[1:] if is_method and isinstance(call.func, cst.Attribute) else positional
    for parameter, argument in zip(positional, call.args, strict=False):
        if argument.keyword is not None or argument.star:
            return None
        if parameter == name:
            return argument.value
    return None


def first_parameter(scope: Scope, *, or_class: bool = False) -> str | None:
    """What a method calls its instance; with `or_class` also what a class method calls its class."""
    node = scope.node
    if not isinstance(node, cst.FunctionDef) or scope.parent is None or not scope.parent.is_class:
        return None
    names = _decorator_names(node)
    if "staticmethod" in names or ("classmethod" in names and not or_class):
        return None
    parameters = all_parameters(node.params)
    return parameters[0].name.value if parameters else None


def _decorator_names(function: cst.FunctionDef) -> list[str]:
    return [called_name(item.decorator) for item in function.decorators]

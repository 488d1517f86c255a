"""Which class (or argparse parser) holds the configuration, and which names hold an instance of it."""

from __future__ import annotations

from collections.abc import Sequence

import libcst as cst

from energy_patch.locate.callers import Assigned, Callers, Use, first_parameter
from energy_patch.locate.config_classes import breaks_subclasses, dataclasses_of, field_names
from energy_patch.locate.dominance import Dominance, may_be_none
from energy_patch.locate.instances import Instances
from energy_patch.locate.parsers import Parser, find_parser, option_names
from energy_patch.locate.settings_classes import holds_settings, is_known_config
from energy_patch.syntax.layout import statement_of
from energy_patch.syntax.nodes import descendants, dotted_name
from energy_patch.syntax.scopes import Binding, Scope
from energy_patch.syntax.tree import Tree

OUT_OF_REACH = 2  # as a distance: no instance in scope at the loss (0) or at a call of the function around it (1)


class ConfigNames:
    """Answers about the config of one tree."""

    def __init__(self, tree: Tree, callers: Callers, dominance: Dominance, near: Sequence[Use] = ()) -> None:
        """`near` are the calls of the loss: of several config classes, one that is in scope there is chosen."""
        self.tree = tree
        self._callers = callers
        self._dominance = dominance
        self._asked: set[tuple[int, str]] = set()
        self._classes = {node.name.value: Instances(tree, node) for node in dataclasses_of(tree)}
        self.config_class: cst.ClassDef | None = None
        self._fields: frozenset[str] = frozenset()
        self._instances: Instances | Parser | None = None
        self.parser: Parser | None = None
        self._choose_config_class(near)
        if self.config_class is None and (parser := find_parser(tree)) is not None:
            self.parser = self._instances = parser
            self._fields = option_names(parser)

    def expression(self, scope: Scope, at: cst.CSTNode | None = None) -> str | None:
        """How the config instance is written in a scope (`cfg`, `self.cfg`), or None where there is none.

        With `at`, only an instance that always has its value when that node is reached.
        """
        inner: Scope | None = scope
        while inner is not None:
            for name in inner.bindings:
                if (
                    scope.owner(name) is inner
                    and self._is_config(name, inner)
                    and (at is None or self._dominance.is_set(name, inner, at))
                ):
                    return name
            inner = inner.parent
        method = scope.function()
        owner = method.enclosing_class()
        receiver = first_parameter(method)
        if owner is not None and method.parent is owner and receiver is not None:
            for target, assigned in self._callers.self_attributes(owner).items():
                if self._is_config_attribute(owner, target, assigned) and (
                    at is None or any(self._sets_attribute(where, method, value, at) for value, where in assigned)
                ):
                    return f"{receiver}.{target}"
        return None

    def _is_config_attribute(self, owner: Scope, target: str, assigned: Sequence[Assigned]) -> bool:
        """Whether an attribute of every instance of a class, and of those derived from it, holds the config."""
        key = (id(owner), f"attribute {target}")
        if key in self._asked:
            return False
        self._asked.add(key)
        try:
            return (
                all(self._is_config_value(value, where) for value, where in assigned)
                and self._callers.constructs_all(owner, target)
                and all(
                    self._is_config_value(value, where)
                    for value, where in self._callers.set_on_instances(owner, target)
                )
            )
        finally:
            self._asked.discard(key)

    def _sets_attribute(self, where: Scope, method: Scope, value: cst.CSTNode | None, at: cst.CSTNode) -> bool:
        """Whether `self.cfg = value` in a constructor always comes before a node in a method is reached."""
        constructor = where.node
        if not isinstance(constructor, cst.FunctionDef) or constructor.name.value not in ("__init__", "__post_init__"):
            return False
        assert value is not None
        for binding in where.resolve(dotted_name(value) or ""):
            if isinstance(binding.node, cst.Param) and may_be_none(binding.node):
                return False
        statement = statement_of(self.tree, value)
        if where is method:
            return self._dominance.dominates(statement, at)
        return self.tree.parents[statement] is constructor.body

    def _choose_config_class(self, near: Sequence[Use]) -> None:
        """The settings that functions take or that are built: in reach of the loss, surely settings, near, large."""
        used = [item for item in self._classes.values() if item.names]
        used = sorted(used, key=lambda item: -len([*field_names(item.node)]))
        used = [item for item in used if not breaks_subclasses(self.tree, item.node) and holds_settings(item)]
        best: tuple[bool, bool, int, int] | None = None
        for place, item in enumerate(used):
            self._set_config_class(item)
            distance = self._distance(near) if len(used) > 1 else 0
            order = (distance == OUT_OF_REACH, not is_known_config(self.tree, item.node), distance, place)
            best = order if best is None or order < best else best
        self._set_config_class(used[best[-1]] if best is not None else None)

    def _set_config_class(self, instances: Instances | None) -> None:
        self._instances = instances
        self.config_class = instances.node if instances else None
        self._fields = frozenset(field_names(instances.node)) if instances else frozenset()

    def _distance(self, near: Sequence[Use]) -> int:
        if any(self.expression(scope, call) for call, scope in near):
            return 0
        for _, scope in near:
            around = scope.function().node
            if isinstance(around, cst.FunctionDef):
                callers = self._callers.uses_of_function(around)[0]
                if any(self.expression(at, call) for call, at in callers):
                    return 1
        return OUT_OF_REACH

    def _is_config(self, name: str, scope: Scope) -> bool:
        if self._instances is None or name in scope.deleted:
            return False
        return all(self._is_config_binding(name, binding, scope) for binding in scope.bindings[name])

    def _is_config_binding(self, name: str, binding: Binding, scope: Scope) -> bool:
        assert self._instances is not None
        if self._instances.makes(binding):
            return True
        if binding.kind == "assign" and isinstance(binding.value, cst.Name):
            return binding.value.value != name and self._is_config_value(binding.value, scope)
        if isinstance(binding.node, cst.Param) and binding.node.annotation is None:
            # An unannotated parameter is the config if it is called like it and read like it.
            read = {
                node.attr.value
                for node, at in self.tree.attributes
                if isinstance(node.value, cst.Name) and node.value.value == name and at.owner(name) is scope
            }
            return name in self._instances.names and bool(read & self._fields) and self._is_passed_configs(name, scope)
        return False

    def _is_passed_configs(self, name: str, scope: Scope) -> bool:
        """Whether no call in this file passes something else for a parameter, nor may whoever is given the function."""
        function = scope.node
        if not isinstance(function, cst.FunctionDef):
            return False  # a lambda: it is always handed to something else
        key = (id(scope), f"passed {name}")
        if key in self._asked:
            return True
        self._asked.add(key)
        try:
            return all(self._is_config_value(value, at) for value, at in self._callers.passed(function, name)) and all(
                self._goes_with(mention, name) for mention in self._callers.uses_of_function(function)[1]
            )
        finally:
            self._asked.discard(key)

    def _goes_with(self, mention: cst.CSTNode, name: str) -> bool:
        """Whether a function is handed on together with the config, `spawn(worker, args=(cfg,))`, or not at all."""
        around = next((item for item in self.tree.ancestors(mention) if isinstance(item, cst.Call)), None)
        if around is not None and around.func is mention:
            return True  # a call of something else's method with that name
        given = [*descendants(around)] if around is not None else []
        return any(
            isinstance(node, cst.Name) and node.value == name and self._is_config_value(node, self.tree.scopes[node])
            for node in given
        )

    def _is_config_value(self, value: cst.CSTNode | None, scope: Scope) -> bool:
        if self._instances is not None and self._instances.is_made(value):
            return True
        if isinstance(value, cst.Attribute):
            return dotted_name(value) == self.expression(scope)
        if not isinstance(value, cst.Name):
            return False
        owner = scope.owner(value.value)
        return owner is not None and self._is_config(value.value, owner)

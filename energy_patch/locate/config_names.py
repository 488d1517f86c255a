"""Which class holds the configuration, and which names hold an instance of it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

import libcst as cst

from energy_patch.locate.callers import Callers, Use, called_name, first_parameter
from energy_patch.locate.dominance import Order, may_be_none
from energy_patch.syntax.layout import statement_of
from energy_patch.syntax.nodes import dotted_name
from energy_patch.syntax.scopes import Binding, Scope
from energy_patch.syntax.tree import Tree

# How an instance is made from a config class, other than by calling it.
PARSERS = frozenset({"parse", "cli", "structured", "parse_config", "load_config", "from_cli", "CLI"})
CLASS_METHODS = re.compile(r"(?:from|load|parse|read|build|make|create|get|default|new)(?:_\w+)?")


class ConfigNames:
    """Answers about the config of one tree."""

    def __init__(self, tree: Tree, callers: Callers, order: Order, near: Sequence[Use] = ()) -> None:
        """`near` are the calls of the loss: of several config classes, one that is in scope there is chosen."""
        self.tree = tree
        self._callers = callers
        self._order = order
        self._asked: set[tuple[int, str]] = set()
        self._dataclasses = {node.name.value: node for node in _dataclasses(tree.root)}
        self.config_class: cst.ClassDef | None = None
        self._fields: frozenset[str] = frozenset()
        self._instance_names: frozenset[str] = frozenset()
        self._unusable: cst.ClassDef | None = None
        self._choose_config_class(near)

    def expression(self, scope: Scope, at: cst.CSTNode | None = None) -> str | None:
        """How the config instance is written in a scope (`cfg`, `self.cfg`), or None where there is none.

        With `at`, only an instance that surely has its value when that node is reached.
        """
        inner: Scope | None = scope
        while inner is not None:
            for name in inner.bindings:
                if (
                    scope.owner(name) is inner
                    and self._is_config(name, inner)
                    and (at is None or self._order.is_set(name, inner, at))
                ):
                    return name
            inner = inner.parent
        method = scope.function()
        owner = method.enclosing_class()
        receiver = first_parameter(method)
        if owner is not None and method.parent is owner and receiver is not None:
            for target, assigned in self._callers.self_attributes(owner).items():
                if all(self._is_config_value(value, where) for value, where in assigned) and (
                    at is None or any(self._sets_attribute(where, method, value, at) for value, where in assigned)
                ):
                    return f"{receiver}.{target}"
        return None

    def holds_settings(self, name: str, owner: Scope) -> bool:
        """Whether a name is the config, one that cannot be given a field, or parsed arguments."""
        bindings = owner.bindings[name]
        if self._is_config(name, owner) or _is_parsed_arguments(bindings):
            return True
        unusable = self._unusable.name.value if self._unusable is not None else None
        return unusable is not None and all(self._makes_instance(binding, unusable) for binding in bindings)

    def _sets_attribute(self, where: Scope, method: Scope, value: cst.CSTNode | None, at: cst.CSTNode) -> bool:
        """Whether `self.cfg = value` in a constructor has surely happened when a node in a method is reached."""
        constructor = where.node
        if not isinstance(constructor, cst.FunctionDef) or constructor.name.value not in ("__init__", "__post_init__"):
            return False
        assert value is not None
        for binding in where.resolve(dotted_name(value) or ""):
            if isinstance(binding.node, cst.Param) and may_be_none(binding.node):
                return False
        statement = statement_of(self.tree, value)
        if where is method:
            return self._order.dominates(statement, at)
        return self.tree.parents[statement] is constructor.body

    def _choose_config_class(self, near: Sequence[Use]) -> None:
        """The dataclass that functions take or that is built: one in scope at the loss, else the largest."""
        used = [node for name, node in self._dataclasses.items() if self._is_used_as_config(name)]
        used = sorted(used, key=lambda node: -len([*_field_names(node)]))
        largest = next(iter(used), None)
        used = [node for node in used if not self._breaks_subclasses(node)]
        self._unusable = largest if largest not in used else None
        best: tuple[int, int] | None = None
        for place, node in enumerate(used):
            self._set_config_class(node)
            distance = (self._distance(near) if len(used) > 1 else 0, place)
            best = distance if best is None or distance < best else best
        self._set_config_class(used[best[1]] if best is not None else None)

    def _set_config_class(self, node: cst.ClassDef | None) -> None:
        self.config_class = node
        self._fields = frozenset(_field_names(node)) if node else frozenset()
        self._instance_names = frozenset(self._annotated_instances())

    def _distance(self, near: Sequence[Use]) -> int:
        if any(self.expression(scope, call) for call, scope in near):
            return 0
        for _, scope in near:
            around = scope.function().node
            if isinstance(around, cst.FunctionDef):
                callers = self._callers.uses_of_function(around)[0]
                if any(self.expression(at, call) for call, at in callers):
                    return 1
        return 2

    def _breaks_subclasses(self, node: cst.ClassDef) -> bool:
        """Whether a new last field of a dataclass would come before fields of a subclass that then fail or shift."""
        has_default = any(part.value is not None for part in _annotated_fields(node))
        for other in self._subclasses(node):
            if any(_is_true(item, "kw_only") for item in other.decorators):
                continue
            own = [*_annotated_fields(other)]
            if not has_default and any(part.value is None for part in own):
                return True
            for call, scope in self.tree.calls:
                means_it = any(binding.node is other for binding in scope.resolve(dotted_name(call.func) or ""))
                if own and means_it and any(argument.keyword is None for argument in call.args):
                    return True
        return False

    def _subclasses(self, node: cst.ClassDef) -> list[cst.ClassDef]:
        found: list[cst.ClassDef] = []
        for other in self._dataclasses.values():
            if any(base is node or base in found for base in self.bases(other)):
                found.append(other)
        return found

    def bases(self, node: cst.ClassDef) -> Iterator[cst.ClassDef]:
        """The classes of this file that a class is derived from, the nearest first."""
        for argument in node.bases:
            for binding in self.tree.root.resolve(dotted_name(argument.value) or ""):
                if isinstance(binding.node, cst.ClassDef) and binding.node is not node:
                    yield binding.node
                    yield from self.bases(binding.node)

    def _is_used_as_config(self, name: str) -> bool:
        for scope in self.tree.all_scopes:
            for bindings in scope.bindings.values():
                if any(self._makes_instance(binding, name) for binding in bindings):
                    return True
        return False

    def _makes_instance(self, binding: Binding, name: str) -> bool:
        if isinstance(binding.node, cst.Param):
            return _annotation_names(binding.node.annotation) == name
        if isinstance(binding.node, cst.AnnAssign) and _annotation_names(binding.node.annotation) == name:
            return True
        targets = binding.node.targets if isinstance(binding.node, cst.Assign) else ()
        is_whole = all(isinstance(target.target, cst.Name | cst.Attribute) for target in targets)
        return binding.kind == "assign" and is_whole and self._is_instance(binding.value, name)

    def _is_instance(self, value: cst.CSTNode | None, name: str) -> bool:
        """`C(...)`, `C.load(...)` or `parse(C)`."""
        if not isinstance(value, cst.Call):
            return False
        callee = dotted_name(value.func) or ""
        if callee == name:
            return True
        first, _, method = callee.partition(".")
        if first == name:
            return bool(CLASS_METHODS.fullmatch(method))
        of_class = any(dotted_name(argument.value) == name for argument in value.args)
        return of_class and callee.rsplit(".", 1)[-1] in PARSERS

    def _annotated_instances(self) -> Iterator[str]:
        if self.config_class is None:
            return
        for scope in self.tree.all_scopes:
            for name, bindings in scope.bindings.items():
                if any(self._makes_instance(binding, self.config_class.name.value) for binding in bindings):
                    yield name

    def _is_config(self, name: str, scope: Scope) -> bool:
        if self.config_class is None:
            return False
        return all(self._is_config_binding(name, binding, scope) for binding in scope.bindings[name])

    def _is_config_binding(self, name: str, binding: Binding, scope: Scope) -> bool:
        assert self.config_class is not None
        if self._makes_instance(binding, self.config_class.name.value):
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
            return name in self._instance_names and bool(read & self._fields) and self._is_passed_configs(name, scope)
        return False

    def _is_passed_configs(self, name: str, scope: Scope) -> bool:
        """Whether no call in this file passes something else for a parameter."""
        function = scope.node
        key = (id(scope), f"passed {name}")
        if not isinstance(function, cst.FunctionDef) or key in self._asked:
            return True
        self._asked.add(key)
        try:
            return all(self._is_config_value(value, at) for value, at in self._callers.passed(function, name))
        finally:
            self._asked.discard(key)

    def _is_config_value(self, value: cst.CSTNode | None, scope: Scope) -> bool:
        if self.config_class is not None and self._is_instance(value, self.config_class.name.value):
            return True
        if isinstance(value, cst.Attribute):
            return dotted_name(value) == self.expression(scope)
        if not isinstance(value, cst.Name):
            return False
        owner = scope.owner(value.value)
        return owner is not None and self._is_config(value.value, owner)


def _dataclasses(root: Scope) -> Iterator[cst.ClassDef]:
    for bindings in root.bindings.values():
        for binding in bindings:
            if isinstance(binding.node, cst.ClassDef) and any(
                called_name(item.decorator) == "dataclass" for item in binding.node.decorators
            ):
                yield binding.node


def _annotated_fields(node: cst.ClassDef) -> Iterator[cst.AnnAssign]:
    for statement in node.body.body:
        for part in getattr(statement, "body", ()) if isinstance(statement, cst.SimpleStatementLine) else ():
            if isinstance(part, cst.AnnAssign) and isinstance(part.target, cst.Name):
                yield part


def _field_names(node: cst.ClassDef) -> Iterator[str]:
    for part in _annotated_fields(node):
        yield cst.ensure_type(part.target, cst.Name).value


def _is_true(decorator: cst.Decorator, keyword: str) -> bool:
    call = decorator.decorator
    return isinstance(call, cst.Call) and any(
        argument.keyword is not None and argument.keyword.value == keyword and dotted_name(argument.value) == "True"
        for argument in call.args
    )


def _annotation_names(annotation: cst.Annotation | None) -> str | None:
    """The class that an annotation names: `C`, `"C"`, `m.C`, `Optional[C]` or `C | None`."""
    node: cst.BaseExpression | None = annotation.annotation if annotation else None
    if isinstance(node, cst.Subscript) and called_name(node.value) == "Optional":
        element = node.slice[0].slice
        node = element.value if isinstance(element, cst.Index) else None
    if isinstance(node, cst.BinaryOperation) and isinstance(node.right, cst.Name) and node.right.value == "None":
        node = node.left
    if isinstance(node, cst.SimpleString):
        return str(node.raw_value)
    return dotted_name(node) if node is not None else None


def _is_parsed_arguments(bindings: list[Binding]) -> bool:
    return bool(bindings) and all(
        isinstance(binding.value, cst.Call) and called_name(binding.value) == "parse_args" for binding in bindings
    )

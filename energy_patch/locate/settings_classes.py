"""Which dataclasses hold settings, and not a batch, the meters of an epoch, or what a function returns."""

from __future__ import annotations

import re
from collections.abc import Iterator

import libcst as cst

from energy_patch.locate.callers import first_parameter
from energy_patch.locate.config_classes import (
    annotated_class,
    annotated_fields,
    base_names,
    dataclasses_of,
    field_names,
)
from energy_patch.locate.field_walks import Meaning, is_taken_apart
from energy_patch.locate.instances import PARSERS, Instances
from energy_patch.syntax.nodes import all_parameters, called_name, descendants, dotted_name, last_name
from energy_patch.syntax.scopes import Scope
from energy_patch.syntax.tree import Tree

NAME = re.compile(
    r"(?:config|cfg|conf|args|arguments|params|parameters|options|opts|settings|hparams|flags)(?:v?\d+)?\Z",
    re.IGNORECASE,
)

# What is given a class, or a function that takes one, and fills it from the command line or from a file.
FILLING = PARSERS | {"HfArgumentParser", "add_arguments", "store"}

VALUE_TYPES = frozenset(
    {"int", "float", "str", "bool", "bytes", "complex", "None", "Path", "PathLike", "PurePath", "dtype", "device"}
    | {"datetime", "timedelta", "Namespace", "Optional", "Union", "Final", "InitVar", "KW_ONLY", "List", "list"}
    | {"Tuple", "tuple", "Dict", "dict", "Set", "set", "FrozenSet", "frozenset", "Sequence", "Mapping", "Iterable"}
)
# What stands in their brackets says nothing of what a field holds.
OPAQUE_TYPES = frozenset({"Literal", "Callable", "ClassVar", "Type", "type"})
ENUMS = ("Enum", "Flag")


def is_known_config(tree: Tree, node: cst.ClassDef) -> bool:
    """Whether a class is a config by its name or a base's, or because a library fills it."""
    named = [node.name.value, *base_names(node)]
    return any(NAME.search(name) for name in named) or _is_filled(tree, node)


def holds_settings(instances: Instances) -> bool:
    """Whether a dataclass is a config, and can have a field more."""
    tree, node = instances.tree, instances.node
    if _has_slots(node):
        return False
    means = Meaning(instances)
    if is_taken_apart(tree, means):
        return False
    if is_known_config(tree, node):
        return True
    return _holds_values(tree, node) and not _is_written_to(tree, node, means)


def _has_slots(node: cst.ClassDef) -> bool:
    """Whether a class lists its own slots: a default cannot stand beside them."""
    return any(
        isinstance(part, cst.AssignTarget) and last_name(part.target) == "__slots__"
        for statement in node.body.body
        if isinstance(statement, cst.SimpleStatementLine)
        for part in descendants(statement)
    )


def _is_filled(tree: Tree, node: cst.ClassDef) -> bool:
    name = node.name.value
    takers = {
        function.name.value: [called_name(item.decorator) for item in function.decorators]
        for scope in tree.all_scopes
        if isinstance(function := scope.node, cst.FunctionDef)
        and any(annotated_class(parameter.annotation) == name for parameter in all_parameters(function.params))
    }
    if any("wrap" in decorators for decorators in takers.values()):
        return True
    return any(
        last_name(part) == name or last_name(part) in takers
        for call, _ in tree.calls
        if called_name(call.func) in FILLING
        for argument in call.args
        for part in _listed(argument.value)
    )


def _listed(node: cst.BaseExpression) -> list[cst.BaseExpression]:
    return [item.value for item in node.elements] if isinstance(node, cst.Tuple | cst.List) else [node]


def _holds_values(tree: Tree, node: cst.ClassDef, inside: frozenset[cst.ClassDef] = frozenset()) -> bool:
    """Whether every field is of a type that a person writes values of, and none is a tensor or a module."""
    return all(_is_value_type(tree, item.annotation.annotation, inside | {node}) for item in annotated_fields(node))


def _is_value_type(tree: Tree, node: cst.CSTNode, inside: frozenset[cst.ClassDef]) -> bool:
    match node:
        case cst.SimpleString():
            try:
                return _is_value_type(tree, cst.parse_expression(str(node.raw_value)), inside)
            except cst.ParserSyntaxError:
                return False
        case cst.Name() | cst.Attribute():
            name = last_name(node)
            if name in VALUE_TYPES | OPAQUE_TYPES or NAME.search(name):
                return True
            classes = [item.node for item in tree.root.resolve(name) if isinstance(item.node, cst.ClassDef)]
            return any(_is_enum(item) or item in inside or _is_nested(tree, item, inside) for item in classes)
        case cst.Subscript():
            parts = [item.slice for item in node.slice]
            if last_name(node.value) == "Annotated":
                return _is_value_type(tree, parts[0], inside)
            if last_name(node.value) in OPAQUE_TYPES:
                return True
            return all(_is_value_type(tree, part, inside) for part in [node.value, *parts])
        case cst.Index():
            return _is_value_type(tree, node.value, inside)
        case cst.BinaryOperation():
            return _is_value_type(tree, node.left, inside) and _is_value_type(tree, node.right, inside)
    return isinstance(node, cst.Ellipsis)


def _is_enum(node: cst.ClassDef) -> bool:
    return any(name.endswith(ENUMS) for name in base_names(node))


def _is_nested(tree: Tree, node: cst.ClassDef, inside: frozenset[cst.ClassDef]) -> bool:
    return node in [*dataclasses_of(tree)] and _holds_values(tree, node, inside)


def _is_written_to(tree: Tree, node: cst.ClassDef, means: Meaning) -> bool:
    """Whether fields are added to, or are given what a loop, a method or a function with several results yields."""
    names = {*field_names(node)}
    for attribute, scope in tree.attributes:
        if attribute.attr.value not in names or not means.instance(attribute.value):
            continue
        if any(_writes(tree, attribute, scope)):
            return True
    return False


def _writes(tree: Tree, attribute: cst.Attribute, scope: Scope) -> Iterator[bool]:
    statement = tree.parents[attribute]
    if isinstance(statement, cst.AugAssign):
        yield statement.target is attribute and isinstance(statement.operator, cst.AddAssign)
    elif isinstance(statement, cst.AssignTarget):
        around = scope.function()
        is_own = dotted_name(attribute.value) == first_parameter(around)
        is_late = isinstance(around.node, cst.FunctionDef) and not around.node.name.value.startswith("__")
        yield (is_own and is_late) or any(isinstance(item, cst.For | cst.While) for item in tree.ancestors(statement))
    elif isinstance(statement, cst.Element):
        yield isinstance(tree.parents[tree.parents[statement]], cst.AssignTarget)

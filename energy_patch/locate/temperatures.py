"""The temperature that a call of the loss passes, and where its value stands."""

from __future__ import annotations

import libcst as cst

from energy_patch.locate.facts import Config, Temperature
from energy_patch.locate.loss_calls import argument_of
from energy_patch.locate.written import is_number
from energy_patch.syntax.nodes import dotted_name
from energy_patch.syntax.scopes import Scope
from energy_patch.syntax.tree import Tree


def passed_temperature(
    tree: Tree, call: cst.Call, scope: Scope, config: Config | None, instance: str | None
) -> Temperature | None:
    """What a call passes as `tau`, if it passes one; `instance` is how the config is written there."""
    node = argument_of(call, "tau")
    if node is None:
        return None
    text, line = tree.text(node), tree.line(node)
    if is_number(text):
        return Temperature(text, "literal", line, text)
    name = dotted_name(node) or ""
    owner, _, field_name = name.rpartition(".")
    if owner and owner == instance and config is not None and (field := config.field(field_name)) is not None:
        return Temperature(text, "field", field.line, field.number, field_name)
    bindings = scope.resolve(name)
    if len(bindings) != 1:
        return Temperature(text, "other", line)
    (binding,) = bindings
    if isinstance(binding.node, cst.Param):
        default = _number(tree, binding.node.default)
        return Temperature(text, "parameter", tree.line(binding.node.name), default, name)
    if binding.kind == "assign" and scope.owner(name) is tree.root:
        return Temperature(text, "constant", tree.line(binding.node), _number(tree, binding.value), name)
    return Temperature(text, "other", line)


def _number(tree: Tree, node: cst.BaseExpression | None) -> str | None:
    text = tree.text(node) if node is not None else ""
    return text if is_number(text) else None

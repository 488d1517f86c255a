"""Actions that are predicted from every layer and then used by nothing."""

from __future__ import annotations

import re
from collections.abc import Iterator

import libcst as cst

from energy_patch.findings.script import Finding, Place, Script
from energy_patch.syntax.tree import Binding, Scope, descendants

NAME = re.compile(r"layer|action", re.IGNORECASE)


def check(script: Script) -> Iterator[Finding]:
    for function in script.functions:
        scope = script.inner_scope(function)
        for name, bindings in scope.bindings.items():
            if not NAME.search(name) or name in scope.declared_outer or not _starts_empty(bindings):
                continue
            appends = _appends_only(script, scope, name)
            if not appends or not all(_is_work_in_a_loop(script, call) for call in appends):
                continue
            yield script.finding(
                "unused-layer-actions",
                appends[0],
                f"{name} is computed and never used",
                f"Every call of {function.name.value} fills this list in a loop, and nothing reads it: time and memory "
                "for nothing.",
                "Delete the loop, or use it: `energy-patch apply --strategy layer` takes such actions as negatives.",
                (Place(script.line(bindings[0].node), "starts as an empty list"),),
            )


def _starts_empty(bindings: list[Binding]) -> bool:
    """Bound once, as an empty list."""
    if len(bindings) != 1 or bindings[0].kind != "assign" or not isinstance(bindings[0].node, cst.Assign):
        return False
    value = bindings[0].value
    is_call = isinstance(value, cst.Call) and not value.args and isinstance(value.func, cst.Name)
    is_list = is_call and value.func.value == "list"  # type: ignore[union-attr]
    return len(bindings[0].node.targets) == 1 and (is_list or (isinstance(value, cst.List) and not value.elements))


def _appends_only(script: Script, scope: Scope, name: str) -> list[cst.Call]:
    """The calls of its `append`, if it is used in no other way, in this function or in one inside."""
    found: list[cst.Call] = []
    for node, at in script.tree.names:
        if node.value != name or at.owner(name) is not scope or isinstance(script.tree.parents[node], cst.AssignTarget):
            continue
        attribute = script.tree.parents[node]
        call = script.tree.parents[attribute]
        is_append = isinstance(attribute, cst.Attribute) and attribute.attr.value in ("append", "extend")
        is_statement = isinstance(call, cst.Call) and isinstance(script.tree.parents[call], cst.Expr)
        if not (is_append and is_statement and isinstance(call, cst.Call)):
            return []
        found.append(call)
    reads_all = {"locals", "vars", "eval", "exec", "globals"}
    if any(node.value in reads_all and at.function() is scope for node, at in script.tree.names):
        return []
    return found


def _is_work_in_a_loop(script: Script, call: cst.Call) -> bool:
    for ancestor in script.tree.ancestors(call):
        if isinstance(ancestor, cst.FunctionDef):
            return False
        if isinstance(ancestor, cst.For | cst.While):
            return any(isinstance(node, cst.Call) for node in descendants(ancestor.body) if node is not call)
    return False

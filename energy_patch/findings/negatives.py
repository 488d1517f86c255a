"""Each sample meets the other samples of its own rank's batch and nothing else."""

from __future__ import annotations

import re
from collections.abc import Iterator

import libcst as cst

from energy_patch.findings.script import Finding, Script
from energy_patch.findings.uses import EXCHANGES
from energy_patch.locate.facts import ORIGINAL_LOSS
from energy_patch.syntax.tree import Scope, descendants, last_name

LOCAL_METHODS = frozenset(
    {"to", "float", "double", "half", "bfloat16", "type", "cuda", "cpu", "detach", "clone", "contiguous", "view"}
    | {"reshape", "squeeze", "unsqueeze", "get", "pop", "requires_grad_", "clamp", "flatten"}
)
GATHERS = re.compile(rf"{EXCHANGES.pattern}|gather|queue|bank|memory|distributed")
WIDTHS = {"float64": 8, "double": 8, "float32": 4, "float": 4, "bfloat16": 2, "float16": 2, "half": 2}


def check(script: Script) -> Iterator[Finding]:
    if script.gpus < 2 or not script.has_ranks or doubt(script) is not None:
        return
    here, all_ranks = script.batch_size - 1, script.gpus * script.batch_size - 1
    for call, _ in script.loss:
        yield script.finding(
            "few-negatives",
            call,
            f"each sample meets {here} negative{'' if here == 1 else 's'}; on one GPU with the same total it would "
            f"meet {all_ranks}",
            f"{ORIGINAL_LOSS} compares the {script.batch_size} action chunks of its own rank with each other, and "
            "with those of no other rank.",
            "`energy-patch apply` takes the actions of all ranks as candidates; only actions travel.",
        )


def doubt(script: Script) -> tuple[int, str] | None:
    """The line, and why it cannot be said that the loss compares the local batch only; None where it can."""
    for call, scope in script.loss:
        function = _in_file(script, call, scope)
        target = script.neighbours.resolve(call.func, scope)
        names = _names(function) if function is not None else (target.names_used if target is not None else None)
        if names and any(GATHERS.search(name) for name in names):
            return script.line(
                call
            ), f"the loss that is called here may gather by itself ({ORIGINAL_LOSS} is not the public one)"
        actions = _actions(call)
        node = _not_local(script, actions, scope, frozenset()) if actions is not None else call
        if node is not None:
            what = f"the loss's actions could not be followed past `{script.seen(node)[:60]}`"
            return script.line(node), f"{what}; the first row takes them for the local batch's"
    return None


def width_of_actions(script: Script) -> tuple[int, int] | None:
    """Bytes of one number of the actions, and the line that says so."""
    for call, scope in script.loss:
        node = _actions(call)
        for _ in range(8):
            if isinstance(node, cst.Call) and isinstance(node.func, cst.Attribute):
                name = node.func.attr.value
                if name in WIDTHS:
                    return WIDTHS[name], script.line(node)
                for argument in node.args if name in ("to", "type") else ():
                    if isinstance(argument.value, cst.Attribute) and (width := WIDTHS.get(argument.value.attr.value)):
                        return width, script.line(node)
                node = node.func.value
            elif isinstance(node, cst.Name):
                bindings = scope.resolve(node.value)
                node = bindings[0].value if len(bindings) == 1 and bindings[0].kind == "assign" else None
            else:
                break
    return None


def _actions(call: cst.Call) -> cst.BaseExpression | None:
    for argument in call.args:
        if argument.keyword is not None and argument.keyword.value == "a_pos":
            return argument.value
    first = call.args[:3]
    is_plain = len(first) == 3 and all(item.keyword is None and not item.star for item in first)
    return first[2].value if is_plain else None


def _in_file(script: Script, call: cst.Call, scope: Scope) -> cst.FunctionDef | None:
    bindings = scope.resolve(call.func.value) if isinstance(call.func, cst.Name) else []
    node = bindings[0].node if bindings else None
    return node if isinstance(node, cst.FunctionDef) else None


def _names(function: cst.FunctionDef) -> set[str]:
    return {node.value for node in descendants(function) if isinstance(node, cst.Name)}


def _not_local(
    script: Script, node: cst.BaseExpression, scope: Scope, seen: frozenset[tuple[Scope, str]]
) -> cst.CSTNode | None:
    """The first thing on the way of a value that is not a plain view of the local batch."""
    match node:
        case cst.Attribute() | cst.Subscript():
            return _not_local(script, node.value, scope, seen)
        case cst.Call(func=cst.Attribute(value=inner, attr=cst.Name(value=name))) if name in LOCAL_METHODS:
            return _not_local(script, inner, scope, seen)
        case cst.Name():
            owner = scope.owner(node.value)
            if owner is None:
                return node
            if (owner, node.value) in seen:
                return None
            seen |= {(owner, node.value)}
            for binding in owner.bindings[node.value]:
                if binding.kind == "loop":
                    continue
                if isinstance(binding.node, cst.Param) and isinstance(owner.node, cst.FunctionDef):
                    passed = script.values.callers.passed(owner.node, node.value)
                    if not passed:
                        return binding.node
                    values = passed
                elif binding.kind == "assign" and binding.value is not None and not _unpacks(binding.node):
                    values = [(binding.value, owner)]
                else:
                    return binding.node
                for value, at in values:
                    if (found := _not_local(script, value, at, seen)) is not None:
                        return found
            return None
        case cst.Call(func=callee) if last_name(callee) == "next":
            return None
    return node


def _unpacks(node: cst.CSTNode) -> bool:
    return isinstance(node, cst.Assign) and any(isinstance(item.target, cst.Tuple | cst.List) for item in node.targets)

"""What a script does with the loss that is no call that can be followed: each is said, with its line."""

from __future__ import annotations

from collections.abc import Iterator

import libcst as cst

from energy_patch.analysis.program import Program
from energy_patch.diagnose.study import Place, Study
from energy_patch.locate.facts import ORIGINAL_LOSS
from energy_patch.syntax.nodes import dotted_name
from energy_patch.syntax.scopes import Scope

DIRECT = "call the loss directly"


def sightings(study: Study) -> tuple[Place, ...]:
    """Where the loss is imported, defined, named or passed on without a call that was followed."""
    program = study.program
    called = {call.func for call, _ in study.loss}
    names = [(node, scope) for node, scope in program.names if _means_loss(program, node, scope)]
    attributes = [(node, scope) for node, scope in program.attributes if node.attr.value == ORIGINAL_LOSS]
    found = [
        study.place(node, _use(program, node, scope))
        for node, scope in [*names, *attributes]
        if node not in called and not isinstance(program.parents.get(node), cst.FunctionDef | cst.AsName)
    ]
    found += [study.place(node, "named in a string, which cannot be followed") for node in _strings(program)]
    if not found and not study.loss:
        found = [study.place(node, what) for node, what in _introduced(study)]
    return tuple(sorted(dict.fromkeys(found), key=lambda place: (place.path or "", place.line)))


def _means_loss(program: Program, node: cst.Name, scope: Scope) -> bool:
    bindings = scope.resolve(node.value)
    if not bindings:
        return node.value == ORIGINAL_LOSS and isinstance(program.parents[node], cst.Call)
    return any(
        (isinstance(item.node, cst.ImportAlias) and dotted_name(item.node.name) == ORIGINAL_LOSS)
        or (isinstance(item.node, cst.FunctionDef) and node.value == ORIGINAL_LOSS)
        for item in bindings
    )


def _use(program: Program, node: cst.CSTNode, scope: Scope) -> str:
    """What is done with the loss where it is named."""
    parent = program.parents[node]
    match parent:
        case cst.Call():
            if isinstance(node, cst.Name) and not scope.resolve(node.value):
                return f"called, but where this name comes from cannot be told; import {ORIGINAL_LOSS} explicitly"
            return "called, but nothing in sight leads to this call, or what the name means cannot be told"
        case cst.Arg():
            call = program.parents[parent]
            callee = (dotted_name(call.func) or "a call") if isinstance(call, cst.Call) else "a class"
            return f"passed to {callee}; {DIRECT}"
        case cst.DictElement():
            return f"stored in a dict; {DIRECT}"
        case cst.Element():
            return f"stored in a list or tuple; {DIRECT}"
        case cst.Assign() | cst.AnnAssign() | cst.NamedExpr():
            return f"given another name, which is not followed; {DIRECT}"
        case cst.AssignTarget():
            return "given another meaning here"
        case cst.Return() | cst.Lambda():
            return f"returned by a function; {DIRECT}"
        case cst.Param():
            return f"the default of a parameter; {DIRECT}"
    return f"used without being called; {DIRECT}"


def _strings(program: Program) -> Iterator[cst.CSTNode]:
    for node in program.scopes:
        if isinstance(node, cst.SimpleString) and node.value.strip("\"'") == ORIGINAL_LOSS:
            yield node


def _introduced(study: Study) -> Iterator[tuple[cst.CSTNode, str]]:
    """Imports of the loss, definitions of it, and star imports that may bring it, in the script itself."""
    program = study.program
    for node in program.script.scopes:
        if isinstance(node, cst.ImportFrom):
            if isinstance(node.names, cst.ImportStar):
                module = dotted_name(node.module) if node.module is not None else "."
                yield node, f"everything is imported from {module}; what it brings in cannot be told"
            elif any(dotted_name(alias.name) == ORIGINAL_LOSS for alias in node.names):
                yield node, f"{ORIGINAL_LOSS} is imported and not called in sight"
        elif isinstance(node, cst.FunctionDef) and node.name.value == ORIGINAL_LOSS:
            yield node, f"{ORIGINAL_LOSS} is defined and not called in sight"

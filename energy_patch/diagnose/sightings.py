"""What a script does with the loss that is no call that can be followed: each is said, with its line."""

from __future__ import annotations

from collections.abc import Iterator

import libcst as cst

from energy_patch.diagnose.study import Place, Study
from energy_patch.locate.facts import ORIGINAL_LOSS
from energy_patch.syntax.nodes import dotted_name

DIRECT = "call the loss directly"


def sightings(study: Study) -> tuple[Place, ...]:
    """Where the loss is imported, defined, named or passed on without a call that was followed, and unread files."""
    if study.patch is not None and not study.patch.is_intact:
        return _left_out(study)  # the loss has another name there
    called = {call.func for call, _ in study.loss}
    found = [
        study.place(node, what)
        for node in study.loss_uses.names
        if node not in called and (what := _use(study, node)) is not None
    ]
    found += [study.place(node, "named in a string, which cannot be followed") for node in study.loss_uses.strings]
    if not study.loss and all(place.path for place in found):
        found += [study.place(node, what) for node, what in _introduced(study)]
    found = sorted(dict.fromkeys(found), key=lambda place: (place.path or "", place.line))
    return (*found, *_left_out(study))


def _left_out(study: Study) -> tuple[Place, ...]:
    return tuple(Place(0, what, study.name_of(path)) for path, what in sorted(study.left_out.items()))


def _use(study: Study, node: cst.Name | cst.Attribute) -> str | None:
    """What is done with the loss where it is named; None where it concerns nobody."""
    parent = study.program.parents[node]
    match parent:
        case cst.Call():
            return _called(study, node, parent)
        case cst.Arg():
            call = study.program.parents[parent]
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


def _called(study: Study, node: cst.Name | cst.Attribute, call: cst.Call) -> str | None:
    """Why a call of the loss is not followed."""
    function = study.program.function_around(call)
    is_used = function is None or bool(study.graph.callers(function))
    if call in {found for found, _ in study.loss_uses.elsewhere} and is_used:
        return "called here, too; `apply` replaces the calls in the script itself and leaves this one"
    if study.program.tree(call) is not study.program.script and not is_used:
        assert function is not None
        return None if study.loss else f"called in {function.name.value}, which nothing in sight calls"
    if isinstance(node, cst.Name) and not study.program.scopes[node].resolve(node.value):
        return f"called, but where this name comes from cannot be told; import {ORIGINAL_LOSS} explicitly"
    return "called, but this name may mean something else"


def _introduced(study: Study) -> Iterator[tuple[cst.CSTNode, str]]:
    """Imports of the loss, definitions of it, and star imports that may bring it, in the script itself."""
    for node in study.program.script.scopes:
        if isinstance(node, cst.ImportFrom):
            if isinstance(node.names, cst.ImportStar):
                module = dotted_name(node.module) if node.module is not None else "."
                yield node, f"everything is imported from {module}; what it brings in cannot be told"
            elif any(dotted_name(alias.name) == ORIGINAL_LOSS for alias in node.names):
                yield node, f"{ORIGINAL_LOSS} is imported and not called in sight"
        elif isinstance(node, cst.FunctionDef) and node.name.value == ORIGINAL_LOSS:
            yield node, f"{ORIGINAL_LOSS} is defined and not called in sight"

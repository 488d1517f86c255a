"""Whether the loss compares the actions of the local batch, and of nothing else, as far as a script's text says."""

from __future__ import annotations

import re

import libcst as cst

from energy_patch.analysis.vocabulary import EXCHANGES
from energy_patch.diagnose.study import Place, Study
from energy_patch.locate.facts import ORIGINAL_LOSS
from energy_patch.locate.loss_calls import argument_of
from energy_patch.syntax.nodes import last_name

LOCAL_METHODS = frozenset(
    {"to", "float", "double", "half", "bfloat16", "type", "cuda", "cpu", "detach", "clone", "contiguous", "view"}
    | {"reshape", "squeeze", "unsqueeze", "get", "pop", "requires_grad_", "clamp", "flatten", "items"}
)
GATHERS = re.compile(rf"{EXCHANGES.pattern}|gather|queue|bank|memory|distributed")


def candidates_doubt(study: Study) -> Place | None:
    """Where, and why, it cannot be said that the loss compares the local batch only; None where it can."""
    for call, scope in study.loss:
        function = study.graph.callee.get(call)
        if function is not None and any(GATHERS.search(name) for name in study.graph.names_below(function)):
            what = f"the loss that is called here may gather by itself (it is not the public {ORIGINAL_LOSS})"
            return study.place(call, what)
        actions = argument_of(call, "a_pos")
        for node in [call] if actions is None else study.aliases.made_from(actions, scope, _local_parts):
            if not _is_local(study, node):
                what = f"the loss's actions could not be followed past `{study.program.seen(node)[:60]}`"
                return study.place(node, f"{what}; the numbers assume that they are those of the local batch")
    return None


def _local_parts(node: cst.BaseExpression) -> list[cst.BaseExpression]:
    """What a view of something is a view of."""
    match node:
        case cst.Attribute() | cst.Subscript():
            return [node.value]
        case cst.BinaryOperation():
            return [node.left]  # noise and the like: arithmetic adds no rows
        case cst.DictComp():
            return [node.for_in.iter]
        case cst.Call(func=cst.Attribute(value=inner, attr=cst.Name(value=name))) if name in LOCAL_METHODS:
            return [inner]
    return []


def _is_local(study: Study, node: cst.BaseExpression) -> bool:
    """A view of the batch, the next batch, or what a loop or a framework hands in."""
    if isinstance(node, cst.Name):
        owner = study.program.scopes[node].owner(node.value)
        kinds = {binding.kind for binding in owner.bindings[node.value]} if owner is not None else set()
        is_hook = owner is not None and owner.parent is not None and owner.parent.is_class
        return bool(kinds) and kinds <= {"loop", "assign", *(["parameter"] if is_hook else [])}
    if isinstance(node, cst.Call):
        is_followed = node in study.graph.callee and node not in study.graph.made
        return bool(_local_parts(node)) or is_followed or last_name(node.func) == "next"
    choices = cst.IfExp | cst.NamedExpr | cst.Tuple
    return bool(_local_parts(node)) or isinstance(node, choices)

"""The model that a call of the loss is given: where its name is bound, and what else uses it on the way to the call."""

from __future__ import annotations

import libcst as cst

from energy_patch.locate.facts import ORIGINAL_PARAMETERS
from energy_patch.locate.rank_conditions import disables_gradients
from energy_patch.syntax.layout import point_before, start_of, statement_of
from energy_patch.syntax.nodes import descendants, dotted_name
from energy_patch.syntax.places import LinePoint
from energy_patch.syntax.scopes import Scope
from energy_patch.syntax.tree import Tree


def model_bound(tree: Tree, call: cst.Call, scope: Scope) -> tuple[int, ...]:
    """Offsets of the bindings of the name that the first argument (or `energy_model=`) starts with."""
    return tuple(tree.span(binding.node)[0] for binding in scope.resolve(_model(call).split(".")[0]))


def before_model(tree: Tree, call: cst.Call, scope: Scope, bound: tuple[int, ...]) -> LinePoint | None:
    """Where a line stands before the first statement that uses the model on the way to a call; None if none does.

    What a forward pass saved must not change before its backward pass, so weights have to be broadcast before it. Only
    statements count that run whenever the call does: those of its block and, around a `with`, of the next one.
    """
    model, start = _model(call), tree.span(call.func)[0]
    owner = scope.owner(model.split(".")[0])
    last_bound = max((offset for offset in bound if offset < start), default=-1)
    point = None
    child = statement_of(tree, call)
    for ancestor in [*tree.ancestors(child)]:
        if isinstance(ancestor, cst.IndentedBlock | cst.Module):
            body: list[cst.CSTNode] = [*ancestor.body]
            above = body[: body.index(child)]
            uses = (item for item in above if start_of(tree, item) > last_bound and _uses(tree, item, model, owner))
            point = next((point_before(tree, item) for item in uses), point)
        elif not isinstance(ancestor, cst.With) or disables_gradients(ancestor):
            break
        child = ancestor
    return point


def _model(call: cst.Call) -> str:
    """The model's expression, where it is a name or a chain of attributes; else nothing."""
    models = [item.value for item in call.args if item.keyword is None or item.keyword.value == ORIGINAL_PARAMETERS[0]]
    return (dotted_name(models[0]) or "") if models else ""


def _uses(tree: Tree, statement: cst.CSTNode, model: str, owner: Scope | None) -> bool:
    """Whether a statement calls the model or hands it to something that may."""
    if isinstance(statement, cst.FunctionDef | cst.ClassDef):
        return False
    return any(
        dotted_name(node) == model
        and isinstance(tree.parents[node], cst.Call | cst.Arg)
        and tree.scopes[node].owner(model.split(".")[0]) is owner
        for node in descendants(statement)
        if isinstance(node, cst.Name | cst.Attribute) and node in tree.scopes
    )

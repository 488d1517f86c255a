"""The model that a call of the loss is given: where its name is bound, and what else uses it on the way to the call."""

from __future__ import annotations

from itertools import pairwise

import libcst as cst

from energy_patch.locate.facts import ORIGINAL_PARAMETERS
from energy_patch.locate.rank_conditions import disables_gradients
from energy_patch.syntax.layout import point_before, start_of, statement_of
from energy_patch.syntax.nodes import descendants, dotted_name, is_target
from energy_patch.syntax.places import LinePoint, Span
from energy_patch.syntax.scopes import Scope
from energy_patch.syntax.tree import Tree


def model_bound(tree: Tree, call: cst.Call, scope: Scope) -> tuple[int, ...]:
    """Offsets at which the first argument (or `energy_model=`), or what it is an attribute of, is given a value."""
    model = _model(call)
    first, *attributes = model.split(".")
    bound = [tree.span(binding.node)[0] for binding in scope.resolve(first)]
    bound += [
        tree.span(node)[0]
        for node, at in tree.attributes
        if node.attr.value in attributes
        and f"{model}.".startswith(f"{dotted_name(node)}.")
        and is_target(node, tree.ancestors(node))
        and at.owner(first) is scope.owner(first)
    ]
    return tuple(bound)


def model_exposed(tree: Tree, call: cst.Call, scope: Scope) -> tuple[int, ...]:
    """Offsets of calls in the same function that may give the first argument another value.

    Where it is an attribute, these are calls of a method of the object that holds it, and those that are handed this
    object; where another function binds its name, calls of any function of this file.
    """
    model, around = _model(call), scope.function()
    nearby = [(other, at) for other, at in tree.calls if at.function() is around]
    if "." in model:
        parts = model.split(".")
        holders = {".".join(parts[:end]) for end in range(1, len(parts))}
        exposing = [other for other, _ in nearby if _is_handed(other, holders) and dotted_name(other.func) != model]
    else:
        functions = {tree.scopes[binding.node].function() for binding in scope.resolve(model)}
        is_bound_elsewhere = not functions <= {scope.owner(model), around}
        exposing = [other for other, at in nearby if is_bound_elsewhere and _calls_function(other, at)]
    return tuple(tree.span(other.func)[0] for other in exposing)


def loops_around(tree: Tree, call: cst.Call) -> tuple[Span, ...]:
    """What the loops around a call run again and again: what a `for` goes over is asked for once."""
    path = [call, *tree.ancestors(call)]
    return tuple(
        Span(tree.span(around)[0] if isinstance(around, cst.While) else tree.span(inner)[0], tree.span(around)[1])
        for inner, around in pairwise(path)
        if isinstance(around, cst.While) or (isinstance(around, cst.For) and inner is not around.iter)
    )


def _is_handed(call: cst.Call, objects: set[str]) -> bool:
    """Whether a call is of a method of one of some objects, or is handed one."""
    receiver = call.func.value if isinstance(call.func, cst.Attribute) else None
    values = [*([receiver] if receiver else []), *(argument.value for argument in call.args)]
    return any(dotted_name(value) in objects for value in values)


def _calls_function(call: cst.Call, scope: Scope) -> bool:
    return any(binding.kind == "function" for binding in scope.resolve(dotted_name(call.func) or ""))


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

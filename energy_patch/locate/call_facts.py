"""One call of the loss as a fact: the function and the statement around it, and the names that mean something there."""

from __future__ import annotations

import libcst as cst

from energy_patch.locate.callers import Callers
from energy_patch.locate.config_names import ConfigNames
from energy_patch.locate.facts import Call, Config, Function
from energy_patch.locate.imports import is_docstring
from energy_patch.locate.model_uses import before_model, loops_around, model_bound, model_exposed
from energy_patch.locate.rank_conditions import rank_conditions
from energy_patch.locate.signatures import arguments, function
from energy_patch.locate.temperatures import passed_temperature
from energy_patch.syntax.layout import STATEMENTS, point_before, statement_of
from energy_patch.syntax.places import LinePoint, Span
from energy_patch.syntax.scopes import Comprehension, Scope
from energy_patch.syntax.tree import Tree

BLOCKS = (cst.IndentedBlock, cst.Module)


def call_facts(
    tree: Tree,
    callers: Callers,
    names: ConfigNames,
    settings: Config | None,
    call: cst.Call,
    scope: Scope,
    functions: dict[cst.FunctionDef, Function],
) -> Call:
    start, end = tree.span(call.func)
    around = scope.function()
    definition = around.node if isinstance(around.node, cst.FunctionDef) else None
    if definition is not None and definition not in functions:
        functions[definition] = function(tree, callers, names, definition, around)
    before, block = _line_before(tree, call)
    instance = names.expression(scope, call)
    bound, exposed = model_bound(tree, call, scope), model_exposed(tree, call, scope)
    return Call(
        line=tree.line(call),
        function=Span(start, end),
        arguments=arguments(tree, call),
        config=instance,
        before=before,
        before_model=before and (before_model(tree, call, scope, bound) or before),
        body=_body(tree, definition),
        block=block,
        enclosing=functions[definition] if definition is not None else None,
        occupied=_occupied(tree, around),
        local_names=_local_names(scope),
        in_scope=_in_scope(tree, call, scope),
        is_conditional=_is_conditional(tree, call),
        model_bound=bound,
        model_exposed=exposed,
        before_exposed=before and (before_model(tree, call, scope, (*bound, *exposed)) or before),
        loops=loops_around(tree, call),
        rank_lines=rank_conditions(tree, callers, call),
        tau=passed_temperature(tree, call, scope, settings, instance),
    )


def _body(tree: Tree, definition: cst.FunctionDef | None) -> LinePoint | None:
    """Where the first line of a function's body starts, behind its docstring; None where it has no lines of its own."""
    if definition is None or not isinstance(definition.body, cst.IndentedBlock):
        return None
    first, *others = definition.body.body
    return point_before(tree, others[0] if others and is_docstring(first) else first)


def _is_conditional(tree: Tree, call: cst.Call) -> bool:
    """Whether the statement that holds a call may run without it: `f(m) if m else 0`, `m and f(m)`."""
    child: cst.CSTNode = call
    for ancestor in tree.ancestors(call):
        if isinstance(ancestor, STATEMENTS):
            return False
        if isinstance(ancestor, cst.IfExp) and child is not ancestor.test:
            return True
        if isinstance(ancestor, cst.BooleanOperation) and child is ancestor.right:
            return True
        child = ancestor
    return False


def _line_before(tree: Tree, call: cst.Call) -> tuple[LinePoint | None, tuple[int, ...]]:
    statement = statement_of(tree, call)
    block = tuple(id(ancestor) for ancestor in tree.ancestors(statement) if isinstance(ancestor, BLOCKS))
    path = [call, *tree.ancestors(call)]
    inner = path[: path.index(statement)]
    in_expression_scope = any(isinstance(node, (cst.Lambda, *Comprehension)) for node in inner)
    in_class = isinstance(tree.scopes[statement].node, cst.ClassDef)
    is_elif = isinstance(statement, cst.If) and isinstance(tree.parents[statement], cst.If)
    cannot = (
        cst.SimpleStatementSuite,
        cst.While,
        cst.FunctionDef,
        cst.ClassDef,
        cst.Try,
        cst.TryStar,
        cst.Match,
    )
    if in_expression_scope or in_class or is_elif or isinstance(statement, cannot):
        return None, block
    return point_before(tree, statement), block


def _occupied(tree: Tree, around: Scope) -> frozenset[str]:
    """Every name that means something in a function, its own and those it reads from outside."""
    names = set(around.bindings)
    for name, scope in tree.names:
        inside: Scope | None = scope
        while inside is not None and inside is not around:
            inside = inside.parent
        if inside is around:
            names.add(name.value)
    return frozenset(names)


def _local_names(scope: Scope | None) -> frozenset[str]:
    names: set[str] = set()
    while scope is not None and scope.parent is not None:
        names |= set(scope.bindings)
        scope = scope.parent
    return frozenset(names)


def _in_scope(tree: Tree, call: cst.Call, scope: Scope) -> frozenset[str]:
    """Names bound around a call: in its own function only those that are bound above it."""
    line = tree.line(call)
    names: set[str] = set()
    inner: Scope | None = scope
    while inner is not None:
        is_own = inner.function() is scope.function()
        for name, bindings in inner.bindings.items():
            parameter = any(binding.kind == "parameter" for binding in bindings)
            if scope.owner(name) is inner and (
                parameter or not is_own or any(tree.line(binding.node) < line for binding in bindings)
            ):
                names.add(name)
        inner = inner.parent
    return frozenset(names)


def identifiers(tree: Tree) -> frozenset[str]:
    bound = {name for scope in tree.all_scopes for name in scope.bindings}
    return frozenset(bound | {name.value for name, _ in tree.names})

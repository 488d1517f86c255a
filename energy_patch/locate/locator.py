"""Find the loss, the function and the config around it, and the imports, in a script that is only ever read."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from pathlib import Path

import libcst as cst

from energy_patch.locate.callers import Callers
from energy_patch.locate.config_fields import config
from energy_patch.locate.config_names import ConfigNames
from energy_patch.locate.dominance import Order
from energy_patch.locate.facts import (
    ORIGINAL_LOSS,
    Call,
    Config,
    Facts,
    Function,
)
from energy_patch.locate.imports import distributed, import_point, is_docstring
from energy_patch.locate.logged import logged_energies
from energy_patch.locate.loss_calls import loss_calls, refuse_other_references
from energy_patch.locate.model_uses import before_model, model_bound
from energy_patch.locate.near_misses import near_misses
from energy_patch.locate.rank_conditions import lone_exits, rank_conditions
from energy_patch.locate.reached import Reached, Read, follow_imports
from energy_patch.locate.signatures import arguments, function
from energy_patch.locate.temperatures import passed_temperature
from energy_patch.refusal import NotCalled, Refusal
from energy_patch.strategies.base import FOLDER_NAME
from energy_patch.syntax.layout import (
    STATEMENTS,
    point_before,
    statement_of,
)
from energy_patch.syntax.places import LinePoint, Span
from energy_patch.syntax.scopes import Comprehension, Scope
from energy_patch.syntax.source import Source, check_compiles
from energy_patch.syntax.tree import Tree, deep_trees

BLOCKS = (cst.IndentedBlock, cst.Module)


def locate(script: Source, read: Read) -> tuple[Facts, ...]:
    """The facts of a script, and of the local modules it imports that call the loss in what it uses.

    `read` gives a module's source as it is without a patch.

    Raises:
        NotCalled: the loss is not called.
        Refusal: it is not called in a way that can be patched.
    """
    check_compiles(script)  # at Python's own recursion limit: what is nested deeper crashes LibCST's parser
    facts = _facts(script, script) if ORIGINAL_LOSS in script.text else None
    following = follow_imports(script, read)
    named = [module for module in following.modules if ORIGINAL_LOSS in module.source.text]
    reached = [_facts_of_module(module, script, following.used) for module in named]
    reached = [item for item in reached if item.calls]
    if not reached and not (facts and facts.calls):
        unused = [
            f"{_name(module.source.path, script)}, line {call.line}: a call in what this script does not use"
            for module in named
            for call in _facts_of_module(module, script).calls  # a module may also hand the loss on
        ]
        unread = [f"{_name(path, script)}: cannot be read as Python, and was left out" for path in following.unread]
        raise NotCalled("not-found", near_misses(script, [*unused, *unread]))
    return (facts or _facts(script, script), *reached)


def _facts_of_module(module: Reached, script: Source, used: frozenset[str] | None = None) -> Facts:
    """A module's facts; a refusal says which file it speaks of."""
    try:
        return _facts(module.source, script, module, used)
    except Refusal as refusal:
        raise refusal.about(_name(module.source.path, script)) from None


def _name(path: Path, script: Source) -> str:
    return path.relative_to(script.path.resolve().parent).as_posix()


def _facts(source: Source, script: Source, reached: Reached | None = None, used: frozenset[str] | None = None) -> Facts:
    """The facts of one file; of a module, only the calls in what the script uses count."""
    with deep_trees():
        return _located(Tree(source, is_checked=True, script=script.path), reached, used)


def _located(tree: Tree, reached: Reached | None, used: frozenset[str] | None) -> Facts:
    all_calls = loss_calls(tree)
    found = [use for use in all_calls if used is None or top_level_name(tree, use[0]) in {None, *used}]
    if found or used is None:
        refuse_other_references(tree, all_calls)
    callers = Callers(tree)
    names = ConfigNames(tree, callers, Order(tree), found)
    settings = None if reached else config(tree, names)
    functions: dict[cst.FunctionDef, Function] = {}
    calls = tuple(_call(tree, callers, names, settings, call, scope, functions) for call, scope in found)
    first = _first_use(tree, calls)
    imports, relative = import_point(tree, found, first)
    return Facts(
        source=tree.source,
        calls=calls,
        config=settings,
        imports=imports,
        package=_package(tree, reached, relative),
        distributed=distributed(tree, first),
        identifiers=_identifiers(tree),
        warnings=lone_exits(tree, callers, found),
        logged=logged_energies(tree, found),
        is_reached=reached is not None,
    )


def top_level_name(tree: Tree, call: cst.Call) -> str | None:
    """The top-level function or class that a call stands in; None where importing the module comes to it."""
    path = [call, *tree.ancestors(call)]
    top = path[-2]
    return top.name.value if isinstance(top, cst.FunctionDef | cst.ClassDef) else None


def _package(tree: Tree, reached: Reached | None, relative: bool) -> str:
    """How `energy_losses/`, which lies beside the script, is named in an import."""
    if reached is None:
        return f".{FOLDER_NAME}" if relative else FOLDER_NAME
    depth = len(tree.source.path.relative_to(tree.script.resolve().parent).parts)
    return f"{'.' * depth}{FOLDER_NAME}" if reached.relative else FOLDER_NAME


def _first_use(tree: Tree, calls: Iterable[Call]) -> int:
    """How many of the module's statements come before the first one that holds a call: imports go there."""
    offsets = [call.function.start for call in calls] or [len(tree.source.text)]
    lines = [tree.first_line(statement) for statement in tree.module.body]
    return max(bisect_right(lines, tree.source.line_of(min(offsets))) - 1, 0)


def _call(
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
    bound = model_bound(tree, call, scope)
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


def _identifiers(tree: Tree) -> frozenset[str]:
    bound = {name for scope in tree.all_scopes for name in scope.bindings}
    return frozenset(bound | {name.value for name, _ in tree.names})

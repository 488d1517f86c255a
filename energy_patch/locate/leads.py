"""The calls, in the other files of a run, of the functions that hold a call of the loss: they decide about it too."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import libcst as cst

from energy_patch.locate.callers import Callers, Use, argument_for, first_parameter
from energy_patch.locate.facts import Lead, LoneExit
from energy_patch.locate.lone_exits import lone_exits
from energy_patch.locate.rank_conditions import functions_of, rank_conditions
from energy_patch.syntax.nodes import all_parameters, called_name
from energy_patch.syntax.scopes import Scope
from energy_patch.syntax.tree import Tree


@dataclass(frozen=True)
class OpenFile:
    """A parsed file of a run, under the name by which it is told of (the entry script has none)."""

    name: str
    tree: Tree
    callers: Callers
    found: tuple[Use, ...] = ()


def leads(files: Sequence[OpenFile]) -> tuple[tuple[Lead, ...], tuple[LoneExit, ...]]:
    """The calls that lead from one file to a loss in another, and where one rank alone may leave their iterations.

    Followed by name: the function itself, a method of a class that the file names, an instance that is called.
    """
    found: dict[cst.Call, Lead] = {}
    exits: list[LoneExit] = []
    waiting = [(file, file.found) for file in files if file.found]
    while waiting:
        holding, uses = waiting.pop()
        holders = [
            node for node in functions_of(holding.tree, holding.callers, uses) if isinstance(node, cst.FunctionDef)
        ]
        for file in files:
            new = [use for use in _calls(file, holding, holders) if use[0] not in found] if file is not holding else []
            for call, _ in new:
                lines = rank_conditions(file.tree, file.callers, call)
                found[call] = Lead(
                    file.name, file.tree.line(call), called_name(call), lines, _passed(file.tree, call, holders)
                )
            exits += [LoneExit(item.line, item.what, file.name) for item in lone_exits(file.tree, file.callers, new)]
            if new:
                waiting.append((file, tuple(new)))
    return tuple(found.values()), tuple(exits)


def _calls(file: OpenFile, holding: OpenFile, holders: Sequence[cst.FunctionDef]) -> Iterator[Use]:
    """The calls in one file that mean a function of another."""
    functions, methods = set(), {}
    for node in holders:
        owner = holding.tree.scopes[node].node
        if isinstance(owner, cst.ClassDef):
            methods[node.name.value] = owner.name.value
        elif isinstance(owner, cst.Module):
            functions.add(node.name.value)
    named = {name.value for name, _ in file.tree.names}
    called = {methods[name] for name in ("forward", "__call__") if name in methods}
    for call, scope in file.tree.calls:
        name = called_name(call)
        is_method = isinstance(call.func, cst.Attribute) and methods.get(name) in named
        is_instance = any(_is_instance(file, call, scope, owner) for owner in called)
        if is_method or is_instance or (name in functions and _is_imported(call, scope)):
            yield call, scope


def _is_imported(call: cst.Call, scope: Scope) -> bool:
    """Whether the name that a callee starts with is imported here, by a star import too."""
    first: cst.BaseExpression = call.func
    while isinstance(first, cst.Attribute):
        first = first.value
    bindings = scope.resolve(first.value) if isinstance(first, cst.Name) else []
    return isinstance(first, cst.Name) and all(binding.kind == "import" for binding in bindings)


def _is_instance(file: OpenFile, call: cst.Call, scope: Scope, owner: str) -> bool:
    """`criterion(...)` or `self.criterion(...)`, where it was built from the class."""
    values: list[cst.BaseExpression | None] = []
    match call.func:
        case cst.Name(value=name):
            values = [binding.value for binding in scope.resolve(name)]
        case cst.Attribute(value=cst.Name(value=receiver), attr=cst.Name(value=name)):
            around = scope.enclosing_class()
            if around is not None and receiver == first_parameter(scope.function()):
                values = [value for value, _ in file.callers.self_attributes(around).get(name, [])]
    return any(isinstance(value, cst.Call) and called_name(value) == owner for value in values)


def _passed(tree: Tree, call: cst.Call, holders: Sequence[cst.FunctionDef]) -> tuple[tuple[str, str], ...]:
    """What a call passes for the parameters of the function that it means."""
    passed = []
    for node in holders:
        if node.name.value == called_name(call):
            is_method = isinstance(call.func, cst.Attribute) and bool(node.params.params) and _takes_self(node)
            for parameter in all_parameters(node.params):
                value = argument_for(node, call, parameter.name.value, is_method=is_method)
                if value is not None:
                    passed.append((parameter.name.value, tree.text(value)))
    return tuple(passed)


def _takes_self(node: cst.FunctionDef) -> bool:
    return node.params.params[0].name.value in ("self", "cls")

"""Which calls mean the original loss: by import, alias, module attribute, star import, or definition."""

from __future__ import annotations

from collections.abc import Iterable

import libcst as cst

from energy_patch.locate.facts import (
    ORIGINAL_LOSS,
    ORIGINAL_PARAMETERS,
)
from energy_patch.locate.local_modules import local_module
from energy_patch.locate.reached import binds
from energy_patch.refusal import Refusal
from energy_patch.syntax.nodes import all_parameters, dotted_name
from energy_patch.syntax.scopes import Scope
from energy_patch.syntax.tree import Tree


def loss_calls(tree: Tree) -> list[tuple[cst.Call, Scope]]:
    """The calls that resolve to the original loss.

    Raises:
        Refusal: `ambiguous`, where a name may also mean something else; `unsupported`, where the script defines another
            function of the loss's name.
    """
    return [(call, scope) for call, scope in tree.calls if _is_loss(tree, call.func, scope)]


def _is_loss(tree: Tree, node: cst.BaseExpression, scope: Scope) -> bool:
    """Whether an expression means the original loss here.

    Raises:
        Refusal: `ambiguous`, where the name may also mean something else.
    """
    name = dotted_name(node)
    if name is None:
        return False
    first, _, rest = name.partition(".")
    if rest and rest.rsplit(".", 1)[-1] != ORIGINAL_LOSS:
        return False
    bindings = scope.resolve(first)
    if not bindings and not rest and first == ORIGINAL_LOSS:
        return _is_star_imported(tree)
    if rest:
        return bool(bindings) and all(binding.kind == "import" for binding in bindings)
    matches = [_binds_loss(tree, binding.node) for binding in bindings]
    if any(matches) and not all(matches):
        other = bindings[matches.index(False)].node
        message = (
            f"{first} is imported and also bound on line {tree.line(other)}, so what the call means depends on the "
            "order of execution; give one of them another name"
        )
        raise Refusal("ambiguous", message, line=tree.line(node))
    return any(matches)


def _is_star_imported(tree: Tree) -> bool:
    """Whether a star import at the top level brings in the loss, as the file that it reads shows."""
    for statement in tree.module.body:
        for part in statement.body if isinstance(statement, cst.SimpleStatementLine) else ():
            if isinstance(part, cst.ImportFrom) and isinstance(part.names, cst.ImportStar):
                module = (dotted_name(part.module) or "") if part.module else ""
                path = local_module(tree.script, module, len(part.relative), importer=tree.source.path)
                if path is not None and binds(path, ORIGINAL_LOSS, tree.script):
                    return True
    return False


def _binds_loss(tree: Tree, node: cst.CSTNode) -> bool:
    if isinstance(node, cst.ImportAlias):
        return dotted_name(node.name) == ORIGINAL_LOSS
    if not isinstance(node, cst.FunctionDef) or node.name.value != ORIGINAL_LOSS:
        return False
    names = tuple(parameter.name.value for parameter in all_parameters(node.params))
    if len(names) < 3 or names != ORIGINAL_PARAMETERS[: len(names)] or node.asynchronous is not None:
        message = (
            f"this {ORIGINAL_LOSS} takes ({', '.join(names)}) instead of ({', '.join(ORIGINAL_PARAMETERS)}), so it is "
            "another function than the one that energy-patch replaces; give it another name, or the original's "
            "parameters"
        )
        raise Refusal("unsupported", message, line=tree.line(node.name))
    return True


def refuse_other_references(tree: Tree, found: list[tuple[cst.Call, Scope]]) -> None:
    """If one reference cannot be rewritten, none is: a loss that is passed around would keep its local negatives.

    Raises:
        Refusal: `unsupported`, where the loss is used without being called.
    """
    called = {call.func for call, _ in found}
    nodes: Iterable[tuple[cst.Name | cst.Attribute, Scope]] = [*tree.names, *tree.attributes]
    for node, scope in nodes:
        if node in called or isinstance(tree.parents[node], cst.Attribute | cst.ImportAlias | cst.AssignTarget):
            continue
        if isinstance(tree.parents[node], cst.FunctionDef | cst.AsName | cst.ImportFrom):
            continue
        if isinstance(tree.parents[node], cst.NameItem | cst.Expr | cst.Del):
            continue  # `global loss`, `try: loss`, `del loss`: it is handed to nothing
        if _is_loss(tree, node, scope) and (use := _use(tree, node)) != "passed to callable":
            message = (
                f"{dotted_name(node)} is {use} here, not called, so the patch cannot see what it will be "
                "given; call the loss directly, or write a function of your own that calls it, and use that here"
            )
            raise Refusal("unsupported", message, line=tree.line(node))


def _use(tree: Tree, node: cst.CSTNode) -> str:
    """What is done with a loss that is not called, in words."""
    parent = tree.parents[node]
    match parent:
        case cst.Arg() if isinstance(around := tree.parents[parent], cst.Call):
            return f"passed to {_full_name(tree, around.func) or 'a call'}"
        case cst.DictElement():
            return "stored in a dict"
        case cst.Element():
            return f"stored in a {type(tree.parents[parent]).__name__.lower()}"
        case cst.Assign() | cst.AnnAssign() | cst.NamedExpr():
            return "given another name"
        case cst.Param():
            return "the default of a parameter"
        case cst.Return():
            return "returned"
    return "used"


def _full_name(tree: Tree, node: cst.BaseExpression) -> str | None:
    """A callee with the module that it is imported from: `functools.partial` for `partial`."""
    name = dotted_name(node)
    bindings = tree.scopes[node].resolve(name) if name is not None and node in tree.scopes else []
    for binding in bindings:
        around = tree.parents.get(binding.node)
        if isinstance(around, cst.ImportFrom) and around.module is not None and not around.relative:
            return f"{dotted_name(around.module)}.{name}"
    return name


def argument_of(call: cst.Call, name: str) -> cst.BaseExpression | None:
    """What a call of the loss passes for one of its parameters, by keyword or by place."""
    for argument in call.args:
        if argument.keyword is not None and argument.keyword.value == name:
            return argument.value
    place = ORIGINAL_PARAMETERS.index(name)
    before = call.args[: place + 1]
    is_plain = len(before) == place + 1 and all(item.keyword is None and not item.star for item in before)
    return before[place].value if is_plain else None

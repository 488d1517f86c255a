"""Iterations that one rank may leave alone, while the others wait for its gradients: found by a simple rule."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import libcst as cst

from energy_patch.locate.callers import Callers, Use
from energy_patch.locate.facts import LoneExit
from energy_patch.locate.rank_conditions import functions_of
from energy_patch.syntax.layout import statement_of
from energy_patch.syntax.nodes import called_name, descendants, dotted_name, last_statement, own_nodes
from energy_patch.syntax.tree import Tree

_LEAVING = (cst.Return, cst.Continue, cst.Break)


def lone_exits(tree: Tree, callers: Callers, found: Sequence[Use]) -> tuple[LoneExit, ...]:
    """Where one rank may leave an iteration by itself; `found` are the calls that lead to the loss.

    A simple rule: a `continue`, `break` or `return` under a condition that reads the loss's own values, a `backward()`
    under such a condition, and an `except` around the loss or a `backward()` after which the loop goes on.
    """
    lines: dict[int, LoneExit] = {}
    for function, uses in functions_of(tree, callers, found).items():
        names = _loss_names(tree, uses)
        for exit_ in [*_tested(tree, function, names), *_caught(tree, function, uses)]:
            lines.setdefault(exit_.line, exit_)
    return tuple(lines[line] for line in sorted(lines))


def _loss_names(tree: Tree, calls: Sequence[cst.Call]) -> set[str]:
    """Names that the statements around some calls assign."""
    names: set[str] = set()
    for call in calls:
        for part in descendants(statement_of(tree, call)):
            names |= _assigned(part)
    return names


def _tested(tree: Tree, function: cst.CSTNode, names: set[str]) -> Iterator[LoneExit]:
    """Conditions on the loss's values by which a rank goes on without its backward pass."""
    for node in own_nodes(function):
        value = getattr(node, "value", None)
        if (assigned := _assigned(node)) and value is not None and names & _names_in(value):
            names |= assigned  # `total = policy_loss + energy_loss`
        if isinstance(node, cst.If) and names & _names_in(node.test) and not _asks_for_none(node.test):
            if isinstance(last_statement(node.body), _LEAVING):
                yield LoneExit(tree.line(node), f"`if {tree.text(node.test)}` leaves the iteration")
            elif node.orelse is None and _goes_backward(node.body):
                yield LoneExit(tree.line(node), f"`if {tree.text(node.test)}` may leave out the backward pass")


def _assigned(node: cst.CSTNode) -> set[str]:
    """The names and attributes that a statement gives a value."""
    match node:
        case cst.Assign():
            targets: list[cst.CSTNode] = [target.target for target in node.targets]
        case cst.AnnAssign() | cst.AugAssign() | cst.NamedExpr():
            targets = [node.target]
        case _:
            return set()
    parts = [
        element.value if isinstance(element, cst.BaseElement) else element
        for target in targets
        for element in (target.elements if isinstance(target, cst.Tuple | cst.List) else [target])
    ]
    return {name for part in parts if (name := dotted_name(part)) is not None} - {"_"}


def _asks_for_none(test: cst.BaseExpression) -> bool:
    """`loss is None`: the same on all ranks."""
    return any(
        isinstance(part, cst.Comparison) and any(dotted_name(item.comparator) == "None" for item in part.comparisons)
        for part in descendants(test)
    )


def _caught(tree: Tree, function: cst.CSTNode, calls: Sequence[cst.Call]) -> Iterator[LoneExit]:
    for node in own_nodes(function):
        if not isinstance(node, cst.Try | cst.TryStar):
            continue
        inside = list(descendants(node.body))
        trains = any(call in inside for call in calls) or _goes_backward(node.body)
        for handler in node.handlers:
            if trains and _goes_on(handler):
                yield LoneExit(tree.line(handler), "the `except` goes on after an error")


def _goes_backward(node: cst.CSTNode) -> bool:
    """`loss.backward()`, `accelerator.backward(loss)`, `self.manual_backward(loss)`."""
    return any(
        isinstance(part, cst.Call) and called_name(part) in ("backward", "manual_backward")
        for part in descendants(node)
    )


def _goes_on(handler: cst.ExceptHandler | cst.ExceptStarHandler) -> bool:
    """Whether a program goes on after an error that its handler catches."""
    if handler.type is not None and dotted_name(handler.type) in ("StopIteration", "KeyboardInterrupt", "ImportError"):
        return False
    last = last_statement(handler.body)
    if isinstance(last, cst.Expr):
        return called_name(last.value) not in ("exit", "_exit", "abort", "kill")
    return not isinstance(last, cst.Raise)


def _names_in(node: cst.CSTNode) -> set[str]:
    """The names and dotted names that an expression reads, without those that are only parts of dotted ones."""
    names: set[str] = set()
    for part in descendants(node):
        if isinstance(part, cst.Name | cst.Attribute) and (name := dotted_name(part)) is not None:
            names.add(name)
    return names

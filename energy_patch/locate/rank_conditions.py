"""Where ranks part ways around the loss: conditions on the rank, and iterations that one rank may leave alone."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

import libcst as cst

from energy_patch.locate.callers import Callers, Use, called_name
from energy_patch.locate.facts import LoneExit
from energy_patch.syntax.layout import statement_of
from energy_patch.syntax.nodes import children, descendants, dotted_name
from energy_patch.syntax.scopes import Scope
from energy_patch.syntax.tree import Tree

# What tells ranks apart, as a name or an attribute; `lora_rank` and the like are something else.
RANK_NAME = re.compile(
    r"(?:(?:global_|local_|node_|world_|process_|ddp_)?rank|(?:local_)?process_index|local_id|device_id|gpu(?:_id)?"
    r"|(?:is_)?(?:local_|world_|global_)?(?:main|master|primary)(?:_process|_rank|_node)?|is_(?:rank_?zero|rank_?0|first)"
    r"|get_(?:global_|local_|node_)?rank)",
    re.IGNORECASE,
)
WITHOUT_GRADIENTS = ("no_grad", "inference_mode")


def rank_conditions(tree: Tree, callers: Callers, call: cst.Call) -> tuple[int, ...]:
    """Lines of the conditions that name the rank and decide whether a call that trains is reached."""
    return tuple(sorted({tree.line(test) for test in _deciding(tree, callers, call, frozenset())}))


def _deciding(
    tree: Tree, callers: Callers, node: cst.CSTNode, seen: frozenset[cst.CSTNode]
) -> Iterator[cst.BaseExpression]:
    if _without_gradients(tree, node):
        return
    child = node
    for ancestor in tree.ancestors(node):
        match ancestor:
            case cst.If() | cst.While() | cst.IfExp() if child is not ancestor.test and _names_rank(ancestor.test):
                yield ancestor.test
            case cst.BooleanOperation() if child is ancestor.right and _names_rank(ancestor.left):
                yield ancestor.left
            case cst.IndentedBlock():
                yield from _exits_before(ancestor, child)
            case cst.FunctionDef():
                if ancestor not in seen:
                    for call, _ in callers.uses_of_function(ancestor)[0]:
                        yield from _deciding(tree, callers, call, seen | {ancestor})
                return
        child = ancestor


def _exits_before(block: cst.IndentedBlock, until: cst.CSTNode) -> Iterator[cst.BaseExpression]:
    """Conditions on the rank above a statement of a block whose branch leaves the block: `if rank != 0: return`."""
    for statement in block.body:
        if statement is until:
            return
        if isinstance(statement, cst.If) and _leaves(statement.body) and _names_rank(statement.test):
            yield statement.test


def _leaves(block: cst.BaseSuite) -> bool:
    last = block.body[-1]
    last = last.body[-1] if isinstance(last, cst.SimpleStatementLine) else last
    return isinstance(last, cst.Return | cst.Continue | cst.Break)


def _names_rank(test: cst.BaseExpression) -> bool:
    """Whether a condition asks which rank this is, not only whether there are ranks (`rank != -1`, `rank is None`)."""
    match test:
        case cst.BooleanOperation():
            return _names_rank(test.left) or _names_rank(test.right)
        case cst.UnaryOperation():
            return _names_rank(test.expression)
        case cst.Comparison(comparisons=[cst.ComparisonTarget(comparator=other)]) if _is_no_rank(other):
            return False
    return any(isinstance(part, cst.Name) and RANK_NAME.fullmatch(part.value) for part in descendants(test))


def _is_no_rank(node: cst.BaseExpression) -> bool:
    is_negative = isinstance(node, cst.UnaryOperation) and isinstance(node.operator, cst.Minus)
    return is_negative or (isinstance(node, cst.Name) and node.value == "None")


def _without_gradients(tree: Tree, node: cst.CSTNode) -> bool:
    for ancestor in tree.ancestors(node):
        expressions: list[cst.BaseExpression] = []
        if isinstance(ancestor, cst.With):
            expressions = [item.item for item in ancestor.items]
        elif isinstance(ancestor, cst.FunctionDef):
            expressions = [decorator.decorator for decorator in ancestor.decorators]
        if any(called_name(expression) in WITHOUT_GRADIENTS for expression in expressions):
            return True
    return False


def lone_exits(tree: Tree, callers: Callers, found: Sequence[Use]) -> tuple[LoneExit, ...]:
    """Where one rank may leave an iteration by itself while the others wait for its gradients.

    A simple rule: a `continue`, `break` or `return` under a condition that reads the loss's own values, and an
    `except` around the loss or a `backward()` after which the loop goes on.
    """
    lines: dict[int, LoneExit] = {}
    for function, uses in _functions_of(tree, callers, found).items():
        names = _loss_names(tree, uses)
        for exit_ in [*_tested_exits(tree, function, names), *_caught(tree, function, uses)]:
            lines.setdefault(exit_.line, exit_)
    return tuple(lines[line] for line in sorted(lines))


def _functions_of(tree: Tree, callers: Callers, found: Sequence[Use]) -> dict[cst.CSTNode, list[cst.Call]]:
    """The functions (or the module) that call the loss or a function that does, each with these calls."""
    functions: dict[cst.CSTNode, list[cst.Call]] = {}
    waiting: list[tuple[cst.Call, Scope]] = list(found)
    while waiting:
        call, scope = waiting.pop()
        around = scope.function().node
        if _without_gradients(tree, call) or call in functions.get(around, ()):
            continue
        functions.setdefault(around, []).append(call)
        if isinstance(around, cst.FunctionDef):
            waiting += callers.uses_of_function(around)[0]
    return functions


def _loss_names(tree: Tree, calls: Sequence[cst.Call]) -> set[str]:
    """Names that the statements around some calls assign."""
    names: set[str] = set()
    for call in calls:
        for part in descendants(statement_of(tree, call)):
            if isinstance(part, cst.AssignTarget):
                names |= {item.value for item in descendants(part) if isinstance(item, cst.Name)}
    return names


def _tested_exits(tree: Tree, function: cst.CSTNode, names: set[str]) -> Iterator[LoneExit]:
    for node in _own(function):
        if isinstance(node, cst.Assign) and names & _names_in(node.value):  # `total = policy_loss + energy_loss`
            names |= {name for target in node.targets for name in _names_in(target)}
        if isinstance(node, cst.If) and _leaves(node.body) and names & _names_in(node.test):
            if any(isinstance(part, cst.Comparison) and _tests_for_none(part) for part in descendants(node.test)):
                continue
            yield LoneExit(tree.line(node), f"`if {tree.text(node.test)}` leaves the iteration")


def _tests_for_none(node: cst.Comparison) -> bool:
    return any(dotted_name(item.comparator) == "None" for item in node.comparisons)


def _caught(tree: Tree, function: cst.CSTNode, calls: Sequence[cst.Call]) -> Iterator[LoneExit]:
    for node in _own(function):
        if not isinstance(node, cst.Try | cst.TryStar):
            continue
        inside = list(descendants(node.body))
        trains = any(call in inside for call in calls) or any(
            isinstance(part, cst.Call) and called_name(part) == "backward" for part in inside
        )
        for handler in node.handlers:
            if trains and _goes_on(handler):
                yield LoneExit(tree.line(handler), "the `except` goes on after an error")


def _goes_on(handler: cst.ExceptHandler | cst.ExceptStarHandler) -> bool:
    """Whether a program goes on after an error that its handler catches."""
    if handler.type is not None and dotted_name(handler.type) in ("StopIteration", "KeyboardInterrupt", "ImportError"):
        return False
    last = handler.body.body[-1]
    if isinstance(last, cst.SimpleStatementLine):
        last = last.body[-1]
    if isinstance(last, cst.Expr):
        return called_name(last.value) not in ("exit", "_exit", "abort", "kill")
    return not isinstance(last, cst.Raise)


def _own(function: cst.CSTNode) -> Iterator[cst.CSTNode]:
    """A function's nodes without those of the functions and classes that are defined in it."""
    waiting = [*children(function)]
    while waiting:
        node = waiting.pop(0)
        yield node
        if not isinstance(node, cst.FunctionDef | cst.ClassDef | cst.Lambda):
            waiting = [*children(node), *waiting]


def _names_in(node: cst.CSTNode) -> set[str]:
    return {part.value for part in descendants(node) if isinstance(part, cst.Name)}

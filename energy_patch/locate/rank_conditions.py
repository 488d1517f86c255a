"""Conditions on the rank that decide whether a call is reached: ranks that reach it wait for the others."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

import libcst as cst

from energy_patch.locate.callers import Callers, Use
from energy_patch.locate.rank_tests import RankTests, runs_on_one_rank
from energy_patch.syntax.nodes import (
    around_body,
    called_name,
    descendants,
    dotted_name,
    last_statement,
    may_be_caught,
)
from energy_patch.syntax.scopes import Comprehension, Scope
from energy_patch.syntax.tree import Tree

WITHOUT_GRADIENTS = ("no_grad", "inference_mode")
EXITS = ("exit", "_exit", "quit")


def rank_conditions(tree: Tree, callers: Callers, call: cst.Call) -> tuple[int, ...]:
    """Lines of the conditions that name the rank and decide whether a call that trains is reached."""
    deciding = _Deciding(tree, callers)
    return tuple(sorted({tree.line(test) for test in deciding.tests(call, frozenset())}))


def functions_of(tree: Tree, callers: Callers, found: Sequence[Use]) -> dict[cst.CSTNode, list[cst.Call]]:
    """The functions (or the module) with calls that train and lead to the loss, each with these calls."""
    functions: dict[cst.CSTNode, list[cst.Call]] = {}
    waiting: list[tuple[cst.Call, Scope]] = list(found)
    while waiting:
        call, scope = waiting.pop()
        around = scope.function().node
        if without_gradients(tree, call) or call in functions.get(around, ()):
            continue
        functions.setdefault(around, []).append(call)
        if isinstance(around, cst.FunctionDef):
            waiting += callers.uses_of_function(around)[0]
    return functions


class _Deciding:
    """Follows a call outwards, through the calls of the functions around it."""

    def __init__(self, tree: Tree, callers: Callers) -> None:
        self._tree = tree
        self._callers = callers
        self._ranks = RankTests(tree, callers)

    def tests(self, node: cst.CSTNode, seen: frozenset[cst.CSTNode]) -> Iterator[cst.CSTNode]:
        """The conditions, decorators and subjects that name the rank and decide whether a node is reached."""
        if without_gradients(self._tree, node):
            return
        child = node
        for ancestor in self._tree.ancestors(node):
            if not (isinstance(node, cst.Call) and _calls_it_anyway(self._tree, ancestor, node)):
                yield from self._at(ancestor, child)
            if isinstance(ancestor, cst.FunctionDef):
                if runs_on_one_rank(ancestor):
                    yield ancestor.name
                if ancestor not in seen:
                    for call, _ in self._callers.uses_of_function(ancestor)[0]:
                        yield from self.tests(call, seen | {ancestor})
                return
            child = ancestor

    def _at(self, ancestor: cst.CSTNode, child: cst.CSTNode) -> Iterator[cst.CSTNode]:
        """What one node above decides about the one below it."""
        tree, names_rank = self._tree, self._ranks.tells_ranks_apart
        match ancestor:
            case cst.If() | cst.While() | cst.IfExp() if child is not ancestor.test and names_rank(ancestor.test):
                yield ancestor.test
            case cst.BooleanOperation() if child is ancestor.right and names_rank(ancestor.left):
                yield ancestor.left
            case cst.Match() if child is not ancestor.subject and self._ranks.is_rank(ancestor.subject):
                yield ancestor.subject
            case cst.IndentedBlock() | cst.Module():
                for statement in ancestor.body:
                    if statement is child:
                        break
                    if isinstance(statement, cst.If) and _has_exit(tree, statement) and names_rank(statement.test):
                        yield statement.test


def _calls_it_anyway(tree: Tree, condition: cst.CSTNode, call: cst.Call) -> bool:
    """Whether all branches of a condition make the same calls of a function: rank 0, say, in a profiler."""
    if not isinstance(condition, cst.If | cst.IfExp) or condition.orelse is None:
        return False
    other: cst.CSTNode = condition.orelse
    if isinstance(other, cst.If):
        if not _calls_it_anyway(tree, other, call):
            return False
        other = other.body
    name = dotted_name(call.func)
    return name is not None and _calls_in(tree, condition.body, name) == _calls_in(tree, other, name)


def _calls_in(tree: Tree, branch: cst.CSTNode, name: str) -> list[list[str]]:
    """What decides how often each call that trains runs in a branch, as it is written."""
    deciding = []
    for call in descendants(branch):
        if isinstance(call, cst.Call) and dotted_name(call.func) == name and not without_gradients(tree, call):
            path = [call, *tree.ancestors(call)]
            inside = path[: path.index(branch) + 1]
            deciding.append([text for inner, around in pairwise(inside) if (text := _decides(tree, around, inner))])
    return sorted(deciding)


def _decides(tree: Tree, around: cst.CSTNode, inner: cst.CSTNode) -> str:
    """The text of what decides whether and how often a node below runs; nothing where it runs once."""
    match around:
        case cst.If() | cst.IfExp() | cst.While() if inner is not around.test or isinstance(around, cst.While):
            return f"{tree.text(around.test)}: {inner is around.body}"
        case cst.For() if inner is not around.iter:
            return f"{tree.text(around.iter)}: {inner is around.body}"
        case cst.BooleanOperation() if inner is around.right:
            return tree.text(around.left)
        case cst.FunctionDef() | cst.Lambda() | cst.ExceptHandler() | cst.ExceptStarHandler() | cst.MatchCase():
            return tree.text(around)
    return tree.text(around) if isinstance(around, Comprehension) else ""


def _has_exit(tree: Tree, statement: cst.If) -> bool:
    """Whether one branch leaves the block, and the job goes on: `if rank != 0: return`."""
    other = statement.orelse
    if isinstance(other, cst.If):
        return _leaves(tree, statement.body) or _has_exit(tree, other)
    return _leaves(tree, statement.body) or (other is not None and _leaves(tree, other.body))


def _leaves(tree: Tree, block: cst.BaseSuite) -> bool:
    last = last_statement(block)
    parts = descendants(block) if _ends_process(last) else [last]  # a `return` may stand before the error
    return any(_is_exit(tree, part) for part in parts)


def _is_exit(tree: Tree, node: cst.CSTNode) -> bool:
    if _ends_process(node):  # an error on one rank ends the job: nobody waits
        return _may_succeed(node) or may_be_caught(node, tree.ancestors(node))
    return isinstance(node, cst.Return | cst.Continue | cst.Break)


def _ends_process(node: cst.CSTNode) -> bool:
    return isinstance(node, cst.Raise) or (isinstance(node, cst.Expr) and called_name(node.value) in EXITS)


def _may_succeed(end: cst.CSTNode) -> bool:
    """Whether a process may end with status 0: by an exit or `SystemExit` without a text or another number."""
    match end:
        case cst.Raise(exc=cst.Call(args=[argument])) | cst.Expr(value=cst.Call(args=[argument])):
            status = argument.value
            if isinstance(status, cst.BaseString) or (isinstance(status, cst.Integer) and status.evaluated_value):
                return False
    return not isinstance(end, cst.Raise) or (end.exc is not None and called_name(end.exc) == "SystemExit")


def without_gradients(tree: Tree, node: cst.CSTNode) -> bool:
    return any(disables_gradients(ancestor) for ancestor in tree.ancestors(node))


def disables_gradients(node: cst.CSTNode) -> bool:
    """Whether a `with` or a decorated function runs its body without gradients."""
    return any(
        called_name(expression) in WITHOUT_GRADIENTS or _sets_gradients_off(expression)
        for expression in around_body(node)
    )


def _sets_gradients_off(node: cst.BaseExpression) -> bool:
    """`torch.set_grad_enabled(False)`."""
    match node:
        case cst.Call(args=[cst.Arg(value=cst.Name(value="False"))]):
            return called_name(node) == "set_grad_enabled"
    return False

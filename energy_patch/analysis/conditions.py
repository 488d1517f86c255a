"""What a node stands under: tests, `with` items, `try`; read by name and text, nothing is proven."""

from __future__ import annotations

import re
from collections.abc import Iterator

import libcst as cst

from energy_patch.analysis.program import Program
from energy_patch.syntax.nodes import around_body, dotted_name, last_name, own_nodes
from energy_patch.syntax.scopes import Comprehension

ONE_RANK = re.compile(
    r"main_process|is_master|is_(main|first)\b|rank_?zero|rank\s*==\s*0|process_index\s*==\s*0|not\s+\w*rank\b"
)


def without_gradients(program: Program, node: cst.CSTNode) -> bool:
    """Whether a node stands under anything that may disable gradients."""
    for ancestor in program.ancestors(node):
        for item in around_body(ancestor):
            if re.search(r"grad|inference", dotted_name(item.func if isinstance(item, cst.Call) else item) or ""):
                return True
    return False


def on_one_rank(program: Program, node: cst.CSTNode) -> bool:
    """Whether a node runs on one rank only, by the tests around it in its own function."""
    return any(ONE_RANK.search(program.text(test)) for test in tests_around(program, node))


def tests_around(program: Program, node: cst.CSTNode) -> Iterator[cst.BaseExpression]:
    """The tests that must hold for a node to be reached from the start of its function, `else` branches aside."""
    child = node
    for ancestor in program.ancestors(node):
        if isinstance(ancestor, cst.FunctionDef):
            return
        if isinstance(ancestor, cst.If | cst.IfExp) and child is ancestor.body:
            yield ancestor.test
        child = ancestor


def deciding_tests(program: Program, node: cst.CSTNode) -> list[cst.BaseExpression] | None:
    """The tests that decide whether a node of a function is reached, whichever way; None where more than tests do."""
    tests: list[cst.BaseExpression] = []
    child = node
    other = (cst.BooleanOperation, cst.For, cst.While, cst.Try, cst.TryStar, cst.MatchCase, cst.Lambda, *Comprehension)
    for ancestor in program.ancestors(node):
        if isinstance(ancestor, cst.FunctionDef):
            line = program.line(node)
            leaves = [item for item in own_nodes(ancestor) if isinstance(item, cst.Return | cst.Raise)]
            return None if any(program.line(item) < line for item in leaves) else tests
        if isinstance(ancestor, other):
            return None
        if isinstance(ancestor, cst.If | cst.IfExp) and child is not ancestor.test:
            tests.append(ancestor.test)
        child = ancestor
    return None


def runs_alone(program: Program, node: cst.CSTNode) -> bool:
    """In the other branch of `... if dist.is_initialized() else ...`, where there are no other ranks."""
    child = node
    for ancestor in program.ancestors(node):
        if isinstance(ancestor, cst.IfExp) and ancestor.orelse is child and isinstance(ancestor.test, cst.Call):
            return last_name(ancestor.test.func) == "is_initialized"
        if isinstance(ancestor, cst.FunctionDef):
            return False
        child = ancestor
    return False

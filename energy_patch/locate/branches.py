"""Branches of a script that never come to the loss: conditions on a setting's text around its calls."""

from __future__ import annotations

from collections.abc import Sequence

import libcst as cst

from energy_patch.locate.callers import Use
from energy_patch.locate.facts import Branch
from energy_patch.syntax.nodes import descendants
from energy_patch.syntax.tree import Tree


def unreached_branches(tree: Tree, found: Sequence[Use]) -> tuple[Branch, ...]:
    """The conditions, such as `cfg.negatives == "structured"`, one of whose branches holds no call of the loss."""
    taken: dict[cst.If, set[bool]] = {}
    for call, _ in found:
        child: cst.CSTNode = call
        for ancestor in tree.ancestors(call):
            if isinstance(ancestor, cst.FunctionDef):
                break
            if isinstance(ancestor, cst.If) and child is not ancestor.test and _asks_for_a_text(ancestor.test):
                taken.setdefault(ancestor, set()).add(child is ancestor.body)
            child = ancestor
    lone = {node: branches.pop() for node, branches in taken.items() if len(branches) == 1}
    return tuple(
        sorted(
            (Branch(tree.line(node), tree.text(node.test), is_reached) for node, is_reached in lone.items()),
            key=lambda branch: branch.line,
        )
    )


def _asks_for_a_text(test: cst.BaseExpression) -> bool:
    """Whether a condition compares something with a text: what a setting chooses by name."""
    return any(
        isinstance(part, cst.Comparison)
        and any(
            isinstance(item.comparator, cst.SimpleString | cst.Tuple | cst.List | cst.Set) for item in part.comparisons
        )
        and any(isinstance(inner, cst.SimpleString) for inner in descendants(part))
        for part in descendants(test)
    )

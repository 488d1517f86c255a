"""Parts of a function: its own nodes, and what it returns."""

from __future__ import annotations

from collections.abc import Iterator

import libcst as cst

from energy_patch.syntax.nodes import children


def own_nodes(function: cst.FunctionDef) -> Iterator[cst.CSTNode]:
    """The nodes of a function's own body, functions and classes in it left out."""
    waiting: list[cst.CSTNode] = [function.body]
    while waiting:
        node = waiting.pop()
        yield node
        inner = [item for item in children(node) if not isinstance(item, cst.FunctionDef | cst.ClassDef | cst.Lambda)]
        waiting += reversed(inner)


def returns_of(function: cst.FunctionDef) -> list[cst.Return]:
    return [node for node in own_nodes(function) if isinstance(node, cst.Return)]


def is_none(node: cst.CSTNode | None) -> bool:
    return isinstance(node, cst.Name) and node.value == "None"

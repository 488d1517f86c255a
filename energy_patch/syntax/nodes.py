"""Nodes of a syntax tree: what they are called, and what stands below them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import fields
from functools import cache

import libcst as cst

LAYOUT_FIELDS = (
    "whitespace",
    "lines",
    "header",
    "footer",
    "indent",
    "newline",
    "lpar",
    "rpar",
    "semicolon",
    "comma",
)


def last_name(node: cst.CSTNode) -> str:
    """`c` of `a.b.c`, and of `c`."""
    if isinstance(node, cst.Attribute):
        return node.attr.value
    return node.value if isinstance(node, cst.Name) else ""


def called_name(node: cst.CSTNode) -> str:
    """`c` for `a.b.c` and for a call of it."""
    return last_name(node.func if isinstance(node, cst.Call) else node)


def dotted_name(node: cst.CSTNode) -> str | None:
    """`a.b.c` for a chain of names and attributes, else None."""
    if isinstance(node, cst.Name):
        return node.value
    if isinstance(node, cst.Attribute) and (base := dotted_name(node.value)) is not None:
        return f"{base}.{node.attr.value}"
    return None


def children(node: cst.CSTNode) -> Iterator[cst.CSTNode]:
    """The nodes just below a node, layout left out, in source order."""
    for name in _child_fields(type(node)):
        value = getattr(node, name)
        if _is_node(value.__class__):
            yield value
        elif isinstance(value, (list, tuple)):
            for item in value:
                if _is_node(item.__class__):
                    yield item


@cache
def _is_node(kind: type) -> bool:
    """By type, since it is asked for some hundred thousand values, and LibCST's classes are slow to answer."""
    return issubclass(kind, cst.CSTNode)


@cache
def _child_fields(kind: type[cst.CSTNode]) -> tuple[str, ...]:
    names = (item.name for item in fields(kind))
    return tuple(name for name in names if not any(layout in name for layout in LAYOUT_FIELDS))


def descendants(node: cst.CSTNode) -> Iterator[cst.CSTNode]:
    """The node and all below it, layout left out, in source order."""
    waiting = [node]
    while waiting:
        node = waiting.pop()
        yield node
        waiting += reversed([*children(node)])


def own_nodes(node: cst.CSTNode) -> Iterator[cst.CSTNode]:
    """The nodes of a function's own body, of a module or a statement; functions and classes in it left out."""
    waiting: list[cst.CSTNode] = [node.body if isinstance(node, cst.FunctionDef) else node]
    while waiting:
        node = waiting.pop()
        yield node
        inner = [item for item in children(node) if not isinstance(item, cst.FunctionDef | cst.ClassDef | cst.Lambda)]
        waiting += reversed(inner)


def returns_of(function: cst.FunctionDef) -> list[cst.Return]:
    return [node for node in own_nodes(function) if isinstance(node, cst.Return)]


def all_parameters(parameters: cst.Parameters) -> list[cst.Param]:
    """Every parameter in order: positional-only, plain, `*args`, keyword-only, `**kwargs`."""
    star = [parameters.star_arg] if isinstance(parameters.star_arg, cst.Param) else []
    last = [parameters.star_kwarg] if parameters.star_kwarg else []
    return [*parameters.posonly_params, *parameters.params, *star, *parameters.kwonly_params, *last]


def around_body(node: cst.CSTNode) -> list[cst.BaseExpression]:
    """What stands around what a node runs: the items of a `with`, the decorators of a function."""
    match node:
        case cst.With():
            return [item.item for item in node.items]
        case cst.FunctionDef():
            return [item.decorator for item in node.decorators]
    return []


def is_target(node: cst.CSTNode, ancestors: Iterable[cst.CSTNode]) -> bool:
    """Whether a name or an attribute stands where it is given a value, perhaps as one of several."""
    for ancestor in ancestors:
        if not isinstance(ancestor, cst.Tuple | cst.List | cst.BaseElement):
            return isinstance(ancestor, cst.AssignTarget | cst.AsName) or getattr(ancestor, "target", None) is node
        node = ancestor
    return False


def last_statement(block: cst.BaseSuite) -> cst.CSTNode:
    """The last statement of a block; of several on one line the last one."""
    last = block.body[-1]
    return last.body[-1] if isinstance(last, cst.SimpleStatementLine) else last


def may_be_caught(node: cst.CSTNode, ancestors: Iterable[cst.CSTNode]) -> bool:
    """Whether an `except` or a `suppress` in the same function could keep an error at a node from leaving it."""
    child = node
    for ancestor in ancestors:
        if isinstance(ancestor, cst.FunctionDef):
            break
        if isinstance(ancestor, cst.Try | cst.TryStar) and child is ancestor.body and ancestor.handlers:
            return True
        if any(called_name(expression) == "suppress" for expression in around_body(ancestor)):
            return True
        child = ancestor
    return False

"""The dataclasses of a script: their fields, bases and subclasses, and how an annotation names one."""

from __future__ import annotations

from collections.abc import Iterator

import libcst as cst

from energy_patch.syntax.nodes import called_name, dotted_name
from energy_patch.syntax.tree import Tree


def breaks_subclasses(tree: Tree, node: cst.ClassDef) -> bool:
    """Whether a new last field of a dataclass would come before fields of a subclass that then fail or shift."""
    has_default = any(part.value is not None for part in annotated_fields(node))
    for other in subclasses(tree, node):
        if any(_is_true(item, "kw_only") for item in other.decorators):
            continue
        own = [*annotated_fields(other)]
        if not has_default and any(part.value is None for part in own):
            return True
        for call, scope in tree.calls:
            means_it = any(binding.node is other for binding in scope.resolve(dotted_name(call.func) or ""))
            if own and means_it and any(argument.keyword is None for argument in call.args):
                return True
    return False


def subclasses(tree: Tree, node: cst.ClassDef) -> list[cst.ClassDef]:
    found: list[cst.ClassDef] = []
    for other in dataclasses_of(tree):
        if any(base is node or base in found for base in bases(tree, other)):
            found.append(other)
    return found


def bases(tree: Tree, node: cst.ClassDef) -> Iterator[cst.ClassDef]:
    """The classes of this file that a class is derived from, the nearest first."""
    for name in base_names(node):
        for binding in tree.root.resolve(name):
            if isinstance(binding.node, cst.ClassDef) and binding.node is not node:
                yield binding.node
                yield from bases(tree, binding.node)


def base_names(node: cst.ClassDef) -> Iterator[str]:
    """What a class is derived from, by name; `Base` for `Base[int]`."""
    for argument in node.bases:
        base = argument.value.value if isinstance(argument.value, cst.Subscript) else argument.value
        if (name := dotted_name(base)) is not None:
            yield name


def dataclasses_of(tree: Tree) -> Iterator[cst.ClassDef]:
    for bindings in tree.root.bindings.values():
        for binding in bindings:
            if isinstance(binding.node, cst.ClassDef) and any(
                called_name(item.decorator) == "dataclass" for item in binding.node.decorators
            ):
                yield binding.node


def annotated_fields(node: cst.ClassDef) -> Iterator[cst.AnnAssign]:
    for statement in node.body.body:
        for part in getattr(statement, "body", ()) if isinstance(statement, cst.SimpleStatementLine) else ():
            if isinstance(part, cst.AnnAssign) and isinstance(part.target, cst.Name):
                yield part


def field_names(node: cst.ClassDef) -> Iterator[str]:
    for part in annotated_fields(node):
        yield cst.ensure_type(part.target, cst.Name).value


def _is_true(decorator: cst.Decorator, keyword: str) -> bool:
    call = decorator.decorator
    return isinstance(call, cst.Call) and any(
        argument.keyword is not None and argument.keyword.value == keyword and dotted_name(argument.value) == "True"
        for argument in call.args
    )


def annotated_class(annotation: cst.Annotation | None) -> str | None:
    """The class that an annotation names: `C`, `"C"`, `m.C`, `Optional[C]` or `C | None`."""
    node: cst.BaseExpression | None = annotation.annotation if annotation else None
    if isinstance(node, cst.Subscript) and called_name(node.value) == "Optional":
        element = node.slice[0].slice
        node = element.value if isinstance(element, cst.Index) else None
    if isinstance(node, cst.BinaryOperation) and isinstance(node.right, cst.Name) and node.right.value == "None":
        node = node.left
    if isinstance(node, cst.SimpleString):
        return str(node.raw_value)
    return dotted_name(node) if node is not None else None

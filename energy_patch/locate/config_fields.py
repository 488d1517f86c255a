"""The config dataclass: its fields as written, and where a new one goes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

import libcst as cst

from energy_patch.locate.config_classes import bases
from energy_patch.locate.config_names import ConfigNames
from energy_patch.locate.facts import (
    Config,
    ConfigField,
)
from energy_patch.locate.parsers import parser_config
from energy_patch.syntax.layout import (
    indentation,
    outer_span,
)
from energy_patch.syntax.nodes import dotted_name
from energy_patch.syntax.places import LinePoint, Span
from energy_patch.syntax.scopes import Scope
from energy_patch.syntax.source import Source
from energy_patch.syntax.tree import Tree


def config(tree: Tree, names: ConfigNames) -> Config | None:
    node = names.config_class
    if names.parser is not None:
        return parser_config(names.parser)
    if node is None or not isinstance(node.body, cst.IndentedBlock):
        return None
    source = tree.source
    fields = _fields(tree, node)
    if not fields:
        return None
    last = _last_field(node.body.body)
    offset = source.line_start(tree.span(last)[0])
    # What the class has besides: inherited fields, and names of its own that are none.
    inherited = [item for base in bases(tree, node) for item in _fields(tree, base)]
    others = [
        _no_field(tree, name, binding.node)
        for name, bindings in _inside(tree, node).bindings.items()
        for binding in bindings[:1]
    ]
    indent = indentation(source, offset)
    end = source.next_line(tree.span(last)[1])
    # A comment that continues the last field's own stands deeper than the fields do.
    while (comment := re.compile(r"([ \t]*)#").match(source.text, end)) and len(comment[1]) > len(indent):
        end = source.next_line(end)
    return Config(
        name=node.name.value,
        line=tree.line(node.name),
        fields=tuple({item.name: item for item in reversed([*fields, *inherited, *others])}.values())[::-1],
        after_fields=LinePoint(end, indent, source.line_of(tree.span(last)[1])),
        comment_column=_comment_column(source, fields),
    )


def _fields(tree: Tree, node: cst.ClassDef) -> list[ConfigField]:
    lines = [statement for statement in node.body.body if isinstance(statement, cst.SimpleStatementLine)]
    parts = [part for line in lines for part in line.body]
    return [
        _config_field(tree, part)
        for part in parts
        if isinstance(part, cst.AnnAssign) and isinstance(part.target, cst.Name)
    ]


def _last_field(body: Sequence[cst.CSTNode]) -> cst.CSTNode:
    """The last field of a class, or the string below it that describes it."""
    last = body[0]
    for statement, following in zip(body, [*body[1:], None], strict=True):
        parts = statement.body if isinstance(statement, cst.SimpleStatementLine) else ()
        if any(isinstance(part, cst.AnnAssign) for part in parts):
            last = parts[-1]
            after = following.body[0] if isinstance(following, cst.SimpleStatementLine) else None
            if isinstance(after, cst.Expr) and isinstance(after.value, cst.SimpleString | cst.ConcatenatedString):
                last = after
    return last


def _inside(tree: Tree, node: cst.ClassDef | cst.FunctionDef) -> Scope:
    return tree.scopes[node.body]


def _no_field(tree: Tree, name: str, node: cst.CSTNode) -> ConfigField:
    span = Span(*tree.span(node))
    return ConfigField(name, "(no annotation)", None, span, None, tree.line(node))


def _config_field(tree: Tree, part: cst.AnnAssign) -> ConfigField:
    assert isinstance(part.target, cst.Name)
    default = _default(part.value)
    value = Span(*outer_span(tree, default)) if default else None
    last = part.value or part.annotation.annotation
    return ConfigField(
        name=part.target.value,
        annotation=tree.text(part.annotation.annotation),
        default=tree.source.text[value.start : value.end] if value else None,
        statement=Span(tree.span(part.target)[0], outer_span(tree, last)[1]),
        value=value,
        line=tree.line(part),
    )


def _default(value: cst.BaseExpression | None) -> cst.BaseExpression | None:
    """What a field has by default: the value itself, or that of `field(default=...)`."""
    if isinstance(value, cst.Call) and dotted_name(value.func) in ("field", "dataclasses.field"):
        given = [item.value for item in value.args if item.keyword and item.keyword.value == "default"]
        return given[0] if given else value
    return value


def _comment_column(source: Source, fields: Iterable[ConfigField]) -> int | None:
    """The column at which most of the fields' trailing comments start."""
    columns: list[int] = []
    for item in fields:
        rest = source.text[item.statement.end : source.line_end(item.statement.end)]
        if (stripped := rest.lstrip(" ")).startswith("#"):
            columns.append(item.statement.end - source.line_start(item.statement.end) + len(rest) - len(stripped))
    return max(set(columns), key=columns.count) if columns else None

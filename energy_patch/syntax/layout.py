"""Where things stand in the text: commas, comments, statements and the line starts before them."""

from __future__ import annotations

import re

import libcst as cst

from energy_patch.syntax.places import LinePoint
from energy_patch.syntax.source import LINE_END, Source
from energy_patch.syntax.tree import Tree

BLANK = re.compile(r"[ \t\f]*")
STATEMENTS = (cst.SimpleStatementLine, cst.SimpleStatementSuite, cst.BaseCompoundStatement)


def skip_layout(text: str, offset: int) -> int:
    """Offset of the next character that is not blank, line end, backslash or comment (inside brackets)."""
    while offset < len(text):
        if text[offset] == "#":
            match = LINE_END.search(text, offset)
            offset = match.start() if match else len(text)
        elif text[offset] in " \t\f\r\n\\":
            offset += 1
        else:
            break
    return offset


def comma_end(text: str, offset: int) -> int | None:
    """Offset just after the comma that follows `offset`, or None."""
    offset = skip_layout(text, offset)
    return offset + 1 if text[offset] == "," else None


def outer_span(tree: Tree, node: cst.BaseExpression) -> tuple[int, int]:
    """A span with the expression's own parentheses."""
    text = tree.source.text
    start, end = tree.span(node)
    for _ in node.lpar:
        start = text.rindex("(", 0, start)
    for _ in node.rpar:
        end = skip_layout(text, end) + 1
    return start, end


def indentation(source: Source, line_start: int) -> str:
    """The blanks that count as a line's indentation: a form feed starts it anew."""
    match = BLANK.match(source.text, line_start)
    return match.group().rpartition("\f")[2] if match else ""


def statement_of(tree: Tree, node: cst.CSTNode) -> cst.CSTNode:
    """The innermost statement around a node: a simple line, a one-line suite, or a compound statement."""
    return next(ancestor for ancestor in tree.ancestors(node) if isinstance(ancestor, STATEMENTS))


def start_of(tree: Tree, statement: cst.CSTNode) -> int:
    """Offset of a statement's first token, decorators included."""
    decorators = getattr(statement, "decorators", ())
    if decorators:
        return tree.span(decorators[0])[0]
    return tree.span(statement.body[0] if isinstance(statement, cst.SimpleStatementLine) else statement)[0]


def end_of(tree: Tree, statement: cst.CSTNode) -> int:
    """Offset just after a statement's last token."""
    while not isinstance(statement, cst.BaseSmallStatement):
        part = _last_part(statement)
        if part is None:
            break
        statement = part
    return tree.span(statement)[1]


def _last_part(statement: cst.CSTNode) -> cst.CSTNode | None:
    if isinstance(statement, cst.SimpleStatementLine | cst.SimpleStatementSuite | cst.IndentedBlock):
        return statement.body[-1]
    for name in ("finalbody", "orelse"):
        part: cst.CSTNode | None = getattr(statement, name, None)
        if part is not None:
            return part
    for name in ("handlers", "cases"):
        parts = getattr(statement, name, ())
        if parts:
            handler: cst.CSTNode = parts[-1]
            return handler
    body: cst.CSTNode | None = getattr(statement, "body", None)
    return body


def point_before(tree: Tree, statement: cst.CSTNode) -> LinePoint:
    """The line start before a statement, with the statement's own indentation."""
    source = tree.source
    offset = source.line_start(start_of(tree, statement))
    return LinePoint(offset, indentation(source, offset), source.line_of(offset))


def point_after(tree: Tree, statement: cst.CSTNode) -> LinePoint:
    """The line start after a statement, with the statement's own indentation; `line` is its last line."""
    source = tree.source
    end = end_of(tree, statement)
    indent = indentation(source, source.line_start(start_of(tree, statement)))
    return LinePoint(source.next_line(end), indent, source.line_of(end))

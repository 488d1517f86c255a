"""Text to put in, in the style of what stands around it: whole lines, and items of a parenthesised list."""

from __future__ import annotations

from collections.abc import Sequence

from energy_patch.locate.facts import ConfigField
from energy_patch.locate.written import Bracketed, Item
from energy_patch.rewrite.edits import Edit
from energy_patch.syntax.places import LinePoint
from energy_patch.syntax.source import Source


def line_edit(source: Source, point: LinePoint, lines: Sequence[str]) -> Edit:
    """Insert whole lines at a line start, with the indentation and line end used there."""
    newline = source.newline_at(source.line_start(max(point.offset - 1, 0)))
    block = newline.join(point.indent + line for line in lines)
    at_end = point.offset == len(source.text)
    if at_end and point.offset > 0 and source.text[-1] not in "\r\n":
        return Edit(point.offset, point.offset, newline + block)
    return Edit(point.offset, point.offset, block + newline)


def append_items(source: Source, inside: Bracketed, texts: Sequence[str]) -> list[Edit]:
    """Add items at the end of a list, before any `**` item; one per line if that is how the last one stands."""
    positional_end = len(inside.items)
    while positional_end and inside.items[positional_end - 1].star == "**":
        positional_end -= 1
    if positional_end == 0:
        following = inside.items[0].span.start if inside.items else None
        text = ", ".join(texts) + (", " if following is not None else "")
        at = following if following is not None else inside.open + 1
        return [Edit(at, at, text)]
    last = inside.items[positional_end - 1]
    stands_alone = _stands_alone(source, inside, last)
    if last.comma_end is not None:
        return [_after_comma(source, inside, last, last.comma_end, texts, stands_alone)]
    if not stands_alone:
        return [Edit(last.span.end, last.span.end, "".join(f", {text}" for text in texts))]
    return _after_bare_item(source, inside, last, texts)


def insert_item(source: Source, inside: Bracketed, before: Item, text: str) -> Edit:
    """Put an item before another one, on a line of its own if that one stands so."""
    start = before.span.start
    if _stands_alone(source, inside, before):
        newline = source.newline_at(source.line_start(start))
        return Edit(start, start, f"{text},{newline}{_item_indent(source, before)}")
    return Edit(start, start, f"{text}, ")


def replace_default(source: Source, existing: ConfigField, value: str) -> Edit:
    """Change a field's default; a comment behind it stays in its column if there is room."""
    assert existing.value is not None
    statement, old = existing.statement, existing.value
    text = source.text[statement.start : old.start] + value + source.text[old.end : statement.end]
    rest = source.text[statement.end : source.line_end(statement.end)]
    gap = len(rest) - len(rest.lstrip(" "))
    if not rest.lstrip(" ").startswith("#"):
        return Edit(statement.start, statement.end, text)
    room = max(gap - (len(text) - (statement.end - statement.start)), min(gap, 2))
    return Edit(statement.start, statement.end + gap, text + " " * room)


def _stands_alone(source: Source, inside: Bracketed, item: Item) -> bool:
    """Whether an item starts a line of its own, below the opening parenthesis."""
    start = source.line_start(item.span.start)
    return start > inside.open and not source.text[start : item.span.start].strip()


def _item_indent(source: Source, item: Item) -> str:
    return source.text[source.line_start(item.span.start) : item.span.start]


def _after_comma(
    source: Source, inside: Bracketed, last: Item, comma: int, texts: Sequence[str], stands_alone: bool
) -> Edit:
    next_line = source.next_line(comma)
    if stands_alone and next_line <= inside.close and not _code_behind(source, comma):
        point = LinePoint(next_line, _item_indent(source, last), source.line_of(comma))
        return line_edit(source, point, [f"{text}," for text in texts])
    return Edit(comma, comma, "".join(f" {text}," for text in texts))


def _code_behind(source: Source, offset: int) -> bool:
    rest = source.text[offset : source.line_end(offset)].strip()
    return bool(rest) and not rest.startswith("#")


def _after_bare_item(source: Source, inside: Bracketed, last: Item, texts: Sequence[str]) -> list[Edit]:
    indent = _item_indent(source, last)
    newline = source.newline_at(source.line_start(last.span.start))
    end = last.span.end
    comment = source.text[end : source.line_end(end)].lstrip(" \t").startswith("#")
    if not comment or source.next_line(end) > inside.close:
        return [Edit(end, end, "".join(f",{newline}{indent}{text}" for text in texts))]
    # The comma goes before the comment and the items go behind it: one edit, so that it can be found again.
    behind = source.next_line(end)
    block = f",{newline}".join(indent + text for text in texts) + newline
    return [Edit(end, behind, "," + source.text[end:behind] + block)]

"""Places in a text: spans, and line starts where whole lines may be put."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Span:
    """Offsets into the script's text, end exclusive."""

    start: int
    end: int


@dataclass(frozen=True)
class LinePoint:
    """A place for whole new lines: offset of a line start (or the text's end), and the indentation to use."""

    offset: int
    indent: str
    line: int

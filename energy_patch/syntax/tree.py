"""A parsed script: its concrete syntax tree, exact offsets into the original text, and lexical scopes.

LibCST does not print every byte that it reads, so a neutralised copy is parsed: line ends become LF, form feeds
become blanks or go. Offsets are looked up by line and column, and only on lines that LibCST prints as they are.
"""

from __future__ import annotations

import gc
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property, lru_cache
from pathlib import Path

import libcst as cst
from libcst.metadata import CodeRange

from energy_patch.refusal import Refusal
from energy_patch.syntax.positions import Positions
from energy_patch.syntax.source import LINE_END, Source, check_compiles, parse
from energy_patch.syntax.walk import walk

RECURSION_LIMIT = 6000  # a sum of a thousand terms is a tree a thousand deep

INDENT_WITH_FORM_FEED = re.compile(r"[ \t\f]*\f")


@contextmanager
def deep_trees() -> Iterator[None]:
    """Room for trees of many thousand nodes, some of them hundreds deep.

    Raises:
        Refusal: `unreadable`, where it is not enough.
    """
    limit, collects = sys.getrecursionlimit(), gc.isenabled()
    sys.setrecursionlimit(max(limit, RECURSION_LIMIT))
    gc.disable()  # the nodes are all alive: looking for garbage costs a sixth of the time
    try:
        yield
    except RecursionError:
        message = "an expression or a chain of `elif` is nested too deeply to be followed; break it up and run again"
        raise Refusal("unreadable", message) from None
    finally:
        sys.setrecursionlimit(limit)
        if collects:
            gc.enable()


@lru_cache(maxsize=8)
def _parsed(text: str) -> tuple[cst.Module, Positions]:
    """One command looks at a file several times; trees are never changed."""
    module = cst.parse_module(text)
    return module, Positions(module, text.split("\n"))


class Tree:
    """The syntax tree of one file with parents, scopes and offsets; `script` is the one whose folder is imported from.

    Raises:
        Refusal: `unreadable`, if the file is not valid Python.
    """

    def __init__(self, source: Source, *, is_checked: bool = False, script: Path | None = None) -> None:
        if not is_checked:
            check_compiles(source)
        self.source = source
        self.script = script or source.path
        self._copy_lines, self._removed = _neutralised(source)
        try:
            module, self._positions = _parsed("\n".join(self._copy_lines))
        except cst.ParserSyntaxError as error:
            message = f"cannot be parsed ({error.message}); fix the syntax first"
            raise Refusal("unreadable", message, line=error.raw_line) from None
        self.module = module
        found = walk(module)
        self.parents, self.scopes = found.parents, found.scopes
        self.calls, self.names, self.attributes = found.calls, found.names, found.attributes
        self.root, self.all_scopes = found.root, found.all_scopes

    @cached_property
    def _first_lines(self) -> dict[cst.CSTNode, int]:
        """The line of each top-level statement's first token, as Python's own parser counts them."""
        parsed = iter(parse(self.source.raw).body)
        lines: dict[cst.CSTNode, int] = {}
        for statement in self.module.body:
            first = next(parsed)
            lines[statement] = min([first.lineno, *(item.lineno for item in getattr(first, "decorator_list", ()))])
            if isinstance(statement, cst.SimpleStatementLine):
                for _ in statement.body[1:]:
                    next(parsed)
        return lines

    def _position(self, node: cst.CSTNode) -> CodeRange:
        position = self._positions.get(node)
        if position is None:
            path = [node, *self.ancestors(node)]
            # The walk does not enter every node: where one hangs is then not known, and all are printed.
            for statement in path[-2:-1] if path[-1] is self.module else self.module.body:
                self._positions.print(statement, self._first_lines[statement])
            position = self._positions.get(node)
        assert position is not None
        return position

    def first_line(self, statement: cst.CSTNode) -> int:
        """The line on which a top-level statement starts; cheaper than `line`."""
        return self._first_lines[statement]

    def span(self, node: cst.CSTNode) -> tuple[int, int]:
        """Start and end offset of a node in the original text, without surrounding layout or parentheses."""
        position = self._position(node)
        return self._offset(position.start.line, position.start.column), self._offset(
            position.end.line, position.end.column
        )

    def _offset(self, line: int, column: int) -> int:
        if line in self._positions.inexact_lines:
            message = "this line is laid out in a way that cannot be edited exactly; reformat it and run again"
            raise Refusal("unsupported", message, line=line)
        return self.source.line_starts[line - 1] + self._removed.get(line, 0) + column

    def text(self, node: cst.CSTNode) -> str:
        start, end = self.span(node)
        return self.source.text[start:end]

    def line(self, node: cst.CSTNode) -> int:
        """The 1-based line on which a node starts."""
        return self._position(node).start.line

    def ancestors(self, node: cst.CSTNode) -> Iterator[cst.CSTNode]:
        """The node's parent, that one's parent, and so on up to the module."""
        while (parent := self.parents.get(node)) is not None:
            yield parent
            node = parent


def _neutralised(source: Source) -> tuple[list[str], dict[int, int]]:
    lines: list[str] = []
    removed: dict[int, int] = {}
    for number, line in enumerate(LINE_END.split(source.text), start=1):
        if "\f" in line:
            # A form feed in the indentation sets Python's column back to 0, so what stands before it goes.
            if match := INDENT_WITH_FORM_FEED.match(line):
                removed[number] = match.end()
                line = line[match.end() :]
            line = line.replace("\f", " ")
        lines.append(line)
    return lines, removed

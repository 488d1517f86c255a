"""Where LibCST's nodes stand: all that leans on its private parts, so pinned below LibCST 2 and tested by itself.

LibCST prints what it parsed to tell where nodes stand. That takes as long as parsing, so it is done for one top-level
statement at a time, when a node in it is asked for.
"""

from __future__ import annotations

from collections.abc import MutableMapping, Sequence
from itertools import zip_longest

import libcst as cst
from libcst.metadata import CodeRange, PositionProvider
from libcst.metadata.position_provider import PositionProvidingCodegenState


class Positions:
    """Lines and columns of the nodes of one module, and the lines that LibCST does not print as they were read."""

    def __init__(self, module: cst.Module, lines: Sequence[str]) -> None:
        self._module = module
        self._lines = lines
        self._provider = PositionProvider()
        self._computed: MutableMapping[cst.CSTNode, CodeRange] = self._provider._computed  # type: ignore[assignment]
        self.inexact_lines: set[int] = set()

    def get(self, node: cst.CSTNode) -> CodeRange | None:
        """Where a node stands, once the statement around it was printed."""
        return self._computed.get(node)

    def print(self, statement: cst.CSTNode, first_line: int) -> None:
        """Have LibCST print a top-level statement whose first token stands on a line."""
        state = PositionProvidingCodegenState(
            default_indent=self._module.default_indent,
            default_newline=self._module.default_newline,
            provider=self._provider,
            line=first_line - len(getattr(statement, "leading_lines", ())),
        )
        first = state.line
        statement._codegen(state)
        printed = "".join(state.tokens).split("\n")[:-1]
        read = self._lines[first - 1 : first - 1 + len(printed)]
        self.inexact_lines |= {
            number for number, (line, old) in enumerate(zip_longest(printed, read), start=first) if line != old
        }

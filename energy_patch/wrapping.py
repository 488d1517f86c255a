"""Lines that hang under their first one, as wide as the reader's terminal."""

from __future__ import annotations

import textwrap


def hanging(text: str, first: str, rest: str, width: int | None) -> list[str]:
    """`text` behind `first`, and what does not fit into `width` columns behind `rest`; with None, only as it breaks.

    Words and options are never broken: one that is longer than the line stands out.
    """
    lines: list[str] = []
    for part in text.split("\n"):
        indent = rest if lines else first
        lines += (
            [indent + part]
            if width is None
            else textwrap.wrap(
                part,
                width,
                initial_indent=indent,
                subsequent_indent=rest,
                break_long_words=False,
                break_on_hyphens=False,
            )
        )
    return lines

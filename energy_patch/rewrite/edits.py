"""Edits as splices: sort, refuse overlaps, copy the slices between, and take them back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, order=True)
class Edit:
    """Replace `text[start:end]` by `text`; offsets count characters of the original."""

    start: int
    end: int
    text: str


def apply_edits(original: str, edits: Sequence[Edit]) -> str:
    """Splice all edits into the original; every character outside their spans is copied.

    Raises:
        ValueError: two edits overlap, or a span lies outside the text.
    """
    pieces: list[str] = []
    position = 0
    for edit in sorted(edits, key=lambda edit: (edit.start, edit.end)):
        if not position <= edit.start <= edit.end <= len(original):
            raise ValueError(f"edit {edit} overlaps the one before it or leaves the text")
        pieces += [original[position : edit.start], edit.text]
        position = edit.end
    return "".join([*pieces, original[position:]])


def invert_edits(original: str, edits: Sequence[Edit]) -> list[Edit]:
    """The edits that turn the edited text back into the original."""
    inverse: list[Edit] = []
    shift = 0
    for edit in sorted(edits, key=lambda edit: (edit.start, edit.end)):
        start = edit.start + shift
        inverse.append(Edit(start, start + len(edit.text), original[edit.start : edit.end]))
        shift += len(edit.text) - (edit.end - edit.start)
    return inverse

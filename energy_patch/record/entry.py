"""Building the entry of a patch that was planned."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator
from itertools import groupby

from energy_patch.record.schema import Region, ScriptEntry, sha256
from energy_patch.rewrite.edits import Edit, apply_edits
from energy_patch.rewrite.plan import Plan, PlannedEdit
from energy_patch.syntax.source import LINE_END
from energy_patch.syntax.tokens import COMMENT, STRING, Token, identifiers, lex


def make_entry(plan: Plan, patched: bytes, modules: tuple[str, ...]) -> ScriptEntry:
    """The entry of a planned patch, given the bytes that it turns the script into and the modules it needs.

    Raises:
        ValueError: an edit leaves nothing in the script by which it could be found again.
    """
    source = plan.source
    text = apply_edits(source.text, [planned.edit for planned in plan.edits])
    regions: list[Region] = []
    shift = 0
    for edit, planned in _findable(plan):
        start = edit.start + shift
        end = start + len(edit.text)
        shift += len(edit.text) - (edit.end - edit.start)
        regions.append(
            Region(
                start=edit.start,
                end=edit.end,
                before=source.text[edit.start : edit.end],
                after=edit.text,
                line=1 + len(LINE_END.findall(text, 0, start + _leading_space(edit.text))),
                above=text[_context_start(text, start) : start],
                below=text[end : _context_end(text, end)],
                title=planned.title,
                tunable=planned.tunable,
                holds=dict(planned.holds),
                owner=planned.owner,
            )
        )
    return ScriptEntry(
        strategy=plan.strategy,
        options=dict(plan.options),
        original=sha256(source.raw),
        patched=sha256(patched),
        encoding=source.encoding,
        names=_counted(plan.names, source.text),
        modules=modules,
        edits=tuple(regions),
        loss=plan.loss,
    )


def _findable(plan: Plan) -> list[tuple[Edit, PlannedEdit]]:
    """The edits in order; one that is a mere separator becomes one with the edit that it was made for."""
    found: list[tuple[Edit, PlannedEdit]] = []
    waiting: Edit | None = None
    for edit, planned in _of_whole_strings(plan):
        if waiting is not None:
            between = plan.source.text[waiting.end : edit.start]
            if any(token.kind != COMMENT for token in lex(between)):
                raise ValueError(f"nothing of edit {waiting} could be found again")
            edit = Edit(waiting.start, edit.end, waiting.text + between + edit.text)
        findable = any(token.solid and token.kind != COMMENT for token in lex(edit.text))
        waiting = None if findable else edit
        if findable:
            found.append((edit, planned))
    if waiting is not None:
        raise ValueError(f"nothing of edit {waiting} could be found again")
    return found


def _of_whole_strings(plan: Plan) -> Iterator[tuple[Edit, PlannedEdit]]:
    """The edits in order; those within one f-string become one of this string, which is a single token."""
    strings = [token for token in lex(plan.source.text) if token.kind == STRING]
    starts = [token.start for token in strings]

    def around(planned: PlannedEdit) -> Token | None:
        before = strings[: bisect_left(starts, planned.edit.start)][-1:]
        return before[0] if before and planned.edit.start < before[0].end else None

    ordered = sorted(plan.edits, key=lambda planned: (planned.edit.start, planned.edit.end))
    for string, group in groupby(ordered, key=around):
        members = list(group)
        if string is None:
            yield from ((planned.edit, planned) for planned in members)
            continue
        inside = [planned.edit for planned in members]
        shifted = [Edit(edit.start - string.start, edit.end - string.start, edit.text) for edit in inside]
        yield Edit(string.start, string.end, apply_edits(string.text, shifted)), members[0]


def _leading_space(text: str) -> int:
    return len(text) - len(text.lstrip())


def _context_start(text: str, position: int) -> int:
    """Where the nearest earlier line begins that is not blank; `position`'s own line does not count."""
    starts = [0, *(match.end() for match in LINE_END.finditer(text, 0, position))]
    own = starts.pop()
    while starts:
        start = starts.pop()
        if text[start:own].strip():
            return start
    return 0


def _context_end(text: str, position: int) -> int:
    """Where the nearest line after `position`'s own ends that is not blank."""
    own = LINE_END.search(text, position)
    begin = own.end() if own else len(text)
    # An edit that ends with its line has the next line as its own.
    if position and text[position - 1] in "\r\n":
        begin = position
    for match in LINE_END.finditer(text, begin):
        if text[begin : match.start()].strip():
            return match.end()
    return len(text)


def _counted(names: tuple[str, ...], text: str) -> dict[str, int]:
    """How often the original has each name already; parsed only if one of them occurs at all."""
    present = [name for name in names if re.search(rf"\b{re.escape(name)}\b", text)]
    if not present:
        return dict.fromkeys(names, 0)
    try:
        counts = Counter(name for name, _ in identifiers(text))
    except (SyntaxError, ValueError, RecursionError):
        counts = Counter()
    return {name: counts[name] for name in names}

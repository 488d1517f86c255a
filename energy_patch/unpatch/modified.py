"""The refusal of a patch that is not as `apply` wrote it: what was changed, and the lines that would have to go.

All line numbers are those of the script as it is now.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import replace
from difflib import SequenceMatcher
from typing import NamedTuple

from energy_patch.record.schema import Region, ScriptEntry
from energy_patch.refusal import Refusal
from energy_patch.rewrite.edits import Edit, apply_edits
from energy_patch.syntax.source import LINE_END, Source
from energy_patch.syntax.tokens import lex
from energy_patch.unpatch.matching import TokenizedScript
from energy_patch.unpatch.regions import FoundRegion, Search

ENOUGH = 0.5  # of a region's words, from which on a line counts as what became of it


class _Now(NamedTuple):
    """What became of a region that is not as it was written: `line` is None where nothing like it is left."""

    region: Region
    line: int | None
    above: int | None  # the line below which it stood, where that is known


def patch_modified(source: Source, script: TokenizedScript, entry: ScriptEntry, search: Search) -> Refusal:
    """Name what was changed, what stood there, and every line that the patch has in the script now."""
    changed = [_now(source, script, entry, search.found, region) for region in search.missing]
    patch_lines = _patch_lines(source, script, entry, search.found, changed)
    said = ["the patch was changed after apply, so it cannot be taken out."]
    said += _changed(source, changed)
    if search.doubtful:
        said.append("This part of the patch stands there more than once:")
        said += [_quoted(source, _first_line(source, script, place)) for place in search.doubtful]
    said.append("Put that back as apply wrote it and run the command again. Or take the patch out by hand, its lines:")
    said += [text for _, text in sorted(patch_lines.items())] or ["    (none is left)"]
    lines = [item.line or item.above for item in changed]
    lines += [_first_line(source, script, place) for place in search.doubtful]
    first = next((line for line in lines if line), min(patch_lines, default=None))
    return Refusal("patch-modified", "\n".join(said), line=first)


def _changed(source: Source, changed: list[_Now]) -> Iterator[str]:
    if changed:
        yield "Changed or missing:"
    for item in changed:
        written = one_line(item.region.after)
        if item.line is not None:
            yield f"{_quoted(source, item.line)}\n        apply wrote: {written}"
        elif item.above is not None:
            yield f"    below {item.above}, missing: {written}"
        else:
            yield f"    missing: {written}"


def _patch_lines(
    source: Source, script: TokenizedScript, entry: ScriptEntry, places: tuple[FoundRegion, ...], changed: list[_Now]
) -> dict[int, str]:
    """The lines that hold something of the patch, by number, each with what stood there before."""
    lines: dict[int, str] = {}
    ends = [(item.region, item.line, item.line) for item in changed if item.line is not None]
    for place in places:
        last = source.line_of(script.tokens[place.match.end - 1].start)
        ends.append((place.region, _first_line(source, script, place), last))
    for region, first, last in ends:
        for number in range(first, last + 1):
            lines.setdefault(number, _quoted(source, number))
        if region.before.strip():
            lines[last] += f"\n        before the patch: {one_line(region.before)}"
    for token in script.tokens:
        number = source.line_of(token.start)
        if token.word and token.text in entry.names and not entry.names[token.text]:
            lines.setdefault(number, _quoted(source, number))
    return lines


def _now(
    source: Source, script: TokenizedScript, entry: ScriptEntry, places: tuple[FoundRegion, ...], region: Region
) -> _Now:
    """Look for what became of a region between its neighbours in the patch."""
    first, last = 1, source.line_of(len(source.text))
    for place in places:
        here = _first_line(source, script, place)
        if place.region.start <= region.start and place.region.line <= region.line:
            first = max(first, here)
        else:
            last = min(last, here)
    rest = _without(source, script, places)
    height = len(LINE_END.findall(region.after.strip())) + 1
    written = _words(region.after)
    shares = {}
    for number in range(first, last + 1):
        below = range(number, min(number + height, last + 1))
        lines = [_words(rest.line_text(each).lstrip("# \t")) for each in below]
        if not {*written}.isdisjoint(lines[0]):
            shares[number] = _share(written, [word for line in lines for word in line], entry.names)
    best = max(shares, key=lambda number: shares[number], default=0)
    line = best if shares.get(best, 0.0) >= ENOUGH else None
    return _Now(region, line, _line_above(source, region, first, last))


def _without(source: Source, script: TokenizedScript, places: tuple[FoundRegion, ...]) -> Source:
    """The script with blanks in the place of the regions that are as they were written: nothing became of these."""
    spans = ((script.tokens[place.match.first].start, script.tokens[place.match.end - 1].end) for place in places)
    edits = [Edit(start, end, re.sub(r"[^\r\n]", " ", source.text[start:end])) for start, end in spans]
    return replace(source, text=apply_edits(source.text, edits))


def _words(text: str) -> list[str]:
    return [token.text for token in lex(text) if token.word]


def _share(written: list[str], seen: list[str], names: Collection[str]) -> float:
    """How many of the words that were written are still there, in their order: from 0 to 1.

    Without one of the names that the patch brought in, it is some other line of the user's.
    """
    brought = {word for word in written if word in names}
    if brought and brought.isdisjoint(seen):
        return 0.0
    blocks = SequenceMatcher(None, written, seen, autojunk=False).get_matching_blocks()
    return float(sum(block.size for block in blocks) / max(len(written), 1))


def _line_above(source: Source, region: Region, first: int, last: int) -> int | None:
    """Where the line now is below which a region stood."""
    above = [line.strip() for line in region.above.splitlines() if line.strip()]
    if not above:
        return None
    numbers = range(first, last + 1)
    return next((number for number in numbers if source.line_text(number).strip() == above[-1]), None)


def _first_line(source: Source, script: TokenizedScript, place: FoundRegion) -> int:
    return source.line_of(script.tokens[place.match.first].start)


def _quoted(source: Source, number: int) -> str:
    return f"    {number}: {source.line_text(number).strip()}"


def one_line(text: str) -> str:
    return " ".join(text.split())

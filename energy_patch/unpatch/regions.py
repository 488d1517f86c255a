"""Find the places of a patch again in a script that was edited or reformatted since."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from energy_patch.record.schema import Region, ScriptEntry
from energy_patch.syntax.tokens import Token, lex, same
from energy_patch.unpatch.matching import Match, Reading, TokenizedScript
from energy_patch.unpatch.patterns import Pattern, make_pattern


@dataclass(frozen=True)
class FoundRegion:
    """A region and where it stands now."""

    region: Region
    pattern: Pattern
    match: Match


class Search(NamedTuple):
    """What was looked for: the regions that are there, those that are not, and of the former those that could stand in
    more than one place."""

    found: tuple[FoundRegion, ...]
    missing: tuple[Region, ...]
    doubtful: tuple[FoundRegion, ...]

    @property
    def is_complete(self) -> bool:
        """Whether every region is there, once."""
        return not self.missing and not self.doubtful


def find_regions(script: TokenizedScript, entry: ScriptEntry) -> Search:
    """Look for every region of a patch.

    Long patterns choose first, so that a short one does not take a part of them.
    """
    patterns = [make_pattern(region) for region in entry.edits]
    groups: dict[tuple[str, ...], list[int]] = {}
    for index, pattern in enumerate(patterns):
        groups.setdefault(pattern.shape, []).append(index)
    claimed: set[int] = set()
    places: dict[int, FoundRegion] = {}
    missing: list[int] = []
    doubtful: list[int] = []
    for shape in sorted(groups, key=len, reverse=True):
        members = groups[shape]
        found = list(_matches(patterns[members[0]], script, claimed)) if shape else []
        scores = [[_likeness(script, entry.edits[member], match) for match in found] for member in members]
        chosen = _assign(scores)
        for row, member in enumerate(members):
            column = chosen.get(row)
            if column is None:
                missing.append(member)
                continue
            rivals = set(range(len(found))) - set(chosen.values())
            if any(scores[row][rival] >= scores[row][column] for rival in rivals):
                doubtful.append(member)
            match = found[column]
            claimed.update(range(match.first, match.end))
            places[member] = FoundRegion(entry.edits[member], patterns[member], match)
    return Search(
        tuple(places[index] for index in sorted(places)),
        tuple(entry.edits[index] for index in sorted(missing)),
        tuple(places[index] for index in sorted(doubtful)),
    )


def _matches(pattern: Pattern, script: TokenizedScript, claimed: set[int]) -> Iterator[Match]:
    end = 0
    for index in script.candidates(pattern.tokens[0]):
        if index < end:
            continue
        whole = Reading(pattern, script, index).match()
        match = whole and _without_anchor(whole, pattern.anchor)
        if match and _is_longer(pattern, script, match):
            continue
        if match and claimed.isdisjoint(range(match.first, match.end)):
            end = match.end
            yield match


def _is_longer(pattern: Pattern, script: TokenizedScript, match: Match) -> bool:
    """Whether it is an import to which names were added: without the patch's names the line would be no Python."""
    is_import = pattern.tokens[0].text in ("from", "import")
    following = script.tokens[match.end : match.end + 1]
    return is_import and bool(following) and following[0].text == ","


def _without_anchor(match: Match, anchor: int) -> Match:
    first = min((index for here, index in match.aligned.items() if here >= anchor), default=match.first)
    return Match(first, match.end, match.aligned, match.extra, match.values) if anchor else match


def _likeness(script: TokenizedScript, region: Region, match: Match) -> int:
    """How much the surroundings are those recorded: neighbours that agree without a gap count most."""
    above = [token for token in lex(region.above) if token.solid]
    below = [token for token in lex(region.below) if token.solid]
    before = _solid(script, range(match.first - 1, -1, -1), 2 * len(above))
    after = _solid(script, range(match.end, len(script.tokens)), 2 * len(below))
    return _agreement(above[::-1], before) + _agreement(below, after)


def _solid(script: TokenizedScript, indices: range, count: int) -> list[Token]:
    found: list[Token] = []
    for index in indices:
        if len(found) >= count:
            break
        if script.tokens[index].solid:
            found.append(script.tokens[index])
    return found


def _agreement(expected: list[Token], seen: list[Token]) -> int:
    run = 0
    while run < min(len(expected), len(seen)) and same(expected[run], seen[run]):
        run += 1
    common = Counter(token.text for token in expected) & Counter(token.text for token in seen)
    return 2 * run + common.total()


def _assign(scores: list[list[int]]) -> dict[int, int]:
    """Rows to columns, the likeliest pairs first, and in order where they are equally likely."""
    pairs = [
        (-score, abs(row - column), row, column) for row, line in enumerate(scores) for column, score in enumerate(line)
    ]
    chosen: dict[int, int] = {}
    taken: set[int] = set()
    for _, _, row, column in sorted(pairs):
        if row not in chosen and column not in taken:
            chosen[row] = column
            taken.add(column)
    return chosen

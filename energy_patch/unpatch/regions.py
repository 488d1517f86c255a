"""Find the places of a patch again in a script that was edited or reformatted since."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from energy_patch.record.schema import Region, ScriptEntry
from energy_patch.syntax.source import LINE_END
from energy_patch.syntax.tokens import CLOSERS, COMMENT, NUMBER, OPENERS, Token, lex, partners, same

SEPARATORS = (",", ";")


class Script:
    """A script's tokens, and what is asked about them over and over."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.tokens = lex(text)
        self.partners = partners(self.tokens)

    @cached_property
    def places(self) -> dict[str, list[int]]:
        """Token text to the indices where it stands."""
        found: dict[str, list[int]] = {}
        for index, token in enumerate(self.tokens):
            found.setdefault(token.text, []).append(index)
        return found

    def candidates(self, first: Token) -> Sequence[int]:
        """Where a pattern that begins with this token may begin."""
        if first.word:
            return self.places.get(first.text, [])
        return [index for index, token in enumerate(self.tokens) if same(first, token)]

    def is_trailing_comma(self, index: int) -> bool:
        """A comma directly before a closing bracket; comments between them do not count."""
        return self.tokens[index].text == "," and self.following(index) in CLOSERS

    def following(self, index: int) -> str:
        """Text of the next token that is not a comment."""
        index += 1
        while index < len(self.tokens) and self.tokens[index].kind == COMMENT:
            index += 1
        return self.tokens[index].text if index < len(self.tokens) else ""


@dataclass(frozen=True)
class Wildcard:
    """Pattern tokens `first:end` whose value the user may have changed; `label` is what it is the value of."""

    first: int
    end: int
    label: str
    whole: bool  # any expression; otherwise one number


@dataclass(frozen=True)
class Pattern:
    """The tokens of a region's `after`, without the separators at its ends.

    Where these say too little by themselves (a bare number), the first `anchor` tokens are those before the region
    on its own line. `lead` and `trail` say whether a separator was left out at that end.
    """

    tokens: tuple[Token, ...]
    anchor: int
    wildcards: tuple[Wildcard, ...]
    lead: bool
    trail: bool

    @cached_property
    def partners(self) -> dict[int, int]:
        return partners(list(self.tokens))

    @property
    def shape(self) -> tuple[str, ...]:
        """Regions of one shape are found in the same places."""
        wild = {index for wildcard in self.wildcards for index in range(wildcard.first, wildcard.end)}
        return tuple("?" if index in wild else token.text for index, token in enumerate(self.tokens))


@dataclass(frozen=True)
class Match:
    """Tokens `first:end` of the script are the pattern; `aligned` maps pattern tokens to script tokens.

    `extra` are brackets that only the script has; `values` are the script tokens of each wildcard.
    """

    first: int
    end: int
    aligned: dict[int, int]
    extra: frozenset[int]
    values: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Place:
    """A region and where it stands now."""

    region: Region
    pattern: Pattern
    match: Match


def make_pattern(region: Region) -> Pattern:
    """What to look for; empty where a region leaves nothing to look for."""
    core, _ = core_tokens(region)
    separators = [token for token in lex(region.after) if token.text in SEPARATORS]
    lead = any(token.start < core[0].start for token in separators if core)
    trail = any(token.start >= core[-1].end for token in separators if core)
    wildcards = _wildcards(core) if region.tunable else ()
    if core and not any(token.word for token in core):
        return _anchored(region, core, lead, trail)
    return Pattern(tuple(core), 0, wildcards, lead, trail)


def core_tokens(region: Region) -> tuple[list[Token], list[Token]]:
    """Tokens of `after` and of `before` without separators at the ends, and without the user's own comment in front.

    A comment stands in front where a comma had to be put before it.
    """
    after, before = _without_separators(lex(region.after)), _without_separators(lex(region.before))
    while after and before and after[0].kind == COMMENT and after[0].text == before[0].text:
        after, before = _without_separators(after[1:]), _without_separators(before[1:])
    return after, before


def _without_separators(tokens: list[Token]) -> list[Token]:
    first, end = 0, len(tokens)
    while first < end and tokens[first].text in SEPARATORS:
        first += 1
    while first < end and tokens[end - 1].text in SEPARATORS:
        end -= 1
    return tokens[first:end]


def _anchored(region: Region, core: list[Token], lead: bool, trail: bool) -> Pattern:
    line = list(LINE_END.finditer(region.above))
    before = lex(region.above[line[-1].end() :] if line else region.above)
    if not any(token.word for token in before):
        return Pattern((), 0, (), lead, trail)
    count = len(before)
    label = next(token.text for token in before if token.word)
    wildcards = (Wildcard(count, count + len(core), label, True),) if region.tunable else ()
    return Pattern((*before, *core), count, wildcards, lead, trail)


def _wildcards(core: list[Token]) -> tuple[Wildcard, ...]:
    """The value of a sole assignment; otherwise the numbers that follow an equals sign."""
    equals = [index for index, token in enumerate(core) if token.text == "="]
    if len(equals) == 1 and not any(token.text in OPENERS for token in core[: equals[0]]):
        end = next((i for i, token in enumerate(core) if token.kind == COMMENT and i > equals[0]), len(core))
        if end > equals[0] + 1:
            return (Wildcard(equals[0] + 1, end, _label(core, equals[0]), True),)
    return tuple(
        Wildcard(index + 1, index + 2, _label(core, index), False)
        for index in equals
        if index + 1 < len(core) and core[index + 1].kind == NUMBER
    )


def _label(core: list[Token], equal: int) -> str:
    """The name before `=`, or before the colon of its annotation."""
    names = [index for index in range(equal) if core[index].word]
    annotated = [index for index in names if index + 1 < equal and core[index + 1].text == ":"]
    found = annotated[-1:] if annotated and core[equal - 2].text == ":" else names[-1:]
    return core[found[0]].text if found else "the value"


class _Walk:
    """One attempt to read a pattern at one place of the script."""

    def __init__(self, pattern: Pattern, script: Script, at: int) -> None:
        self.pattern, self.script, self.first = pattern, script, at
        self.here, self.there = 0, at
        self.aligned: dict[int, int] = {}
        self.extra: set[int] = set()
        self.skipped: set[int] = set()
        self.values: list[tuple[int, int]] = []
        self.wild = {wildcard.first: wildcard for wildcard in pattern.wildcards}

    def match(self) -> Match | None:
        while self.here < len(self.pattern.tokens):
            if self.here in self.skipped:
                self.here += 1
            elif self.there in self.extra:
                self.there += 1
            elif not self._step():
                return None
        if not self._close():
            return None
        return Match(self.first, self.there, self.aligned, frozenset(self.extra), tuple(self.values))

    def _step(self) -> bool:
        script, pattern = self.script, self.pattern
        if self.there >= len(script.tokens):
            return self._skip_in_pattern()
        wildcard = self.wild.get(self.here)
        if wildcard is not None:
            return self._take_value(wildcard)
        if same(pattern.tokens[self.here], script.tokens[self.there]):
            self._align()
            return True
        return self._skip_in_script() or self._skip_in_pattern()

    def _align(self) -> None:
        self.aligned[self.here] = self.there
        self.here += 1
        self.there += 1

    def _skip_in_script(self) -> bool:
        """Parentheses and a trailing comma that a formatter may have added."""
        token = self.script.tokens[self.there]
        partner = self.script.partners.get(self.there)
        if token.text == "(" and partner is not None and self.there > self.first:
            self.extra |= {self.there, partner}
        elif not self.script.is_trailing_comma(self.there):
            return False
        self.there += 1
        return True

    def _skip_in_pattern(self) -> bool:
        """Parentheses, a trailing comma and semicolons that a formatter may have taken away."""
        tokens = self.pattern.tokens
        text = tokens[self.here].text
        partner = self.pattern.partners.get(self.here)
        if text == "(" and partner is not None:
            self.skipped.add(partner)
        elif text == ",":
            rest = (token.text for token in tokens[self.here + 1 :] if token.kind != COMMENT)
            if next(rest, ")") not in CLOSERS:
                return False
        elif text != ";":
            return False
        self.here += 1
        return True

    def _take_value(self, wildcard: Wildcard) -> bool:
        start = self.there
        if not wildcard.whole:
            if self.script.tokens[self.there].kind != NUMBER:
                return False
            self.values.append((start, start + 1))
            self._align()
            return True
        start = self._value_start(start)
        end = self._value_end(start)
        if end == start:
            return False
        self.values.append((start, end))
        self.aligned[wildcard.first], self.aligned[wildcard.end - 1] = start, end - 1
        self.here, self.there = wildcard.end, end
        return True

    def _value_start(self, index: int) -> int:
        """Past a parenthesis that a formatter put round a value together with its comment."""
        partner = self.script.partners.get(index)
        if self.script.tokens[index].text != "(" or partner is None:
            return index
        inner = self.script.tokens[index:partner]
        if not any(token.kind == COMMENT for token in inner):
            return index
        self.extra |= {index, partner}
        return index + 1

    def _value_end(self, index: int) -> int:
        tokens = self.script.tokens
        line = tokens[index - 1].line
        while index < len(tokens) and tokens[index].line == line:
            token = tokens[index]
            if token.kind == COMMENT or token.text in (",", ";") or token.text in CLOSERS:
                break
            index = self.script.partners.get(index, index) + 1
        return index

    def _close(self) -> bool:
        """Go on to the last bracket that belongs to the match; only layout and comments may stand on the way."""
        last = max(self.extra, default=-1)
        while self.there <= last:
            is_comment = self.script.tokens[self.there].kind == COMMENT
            if self.there not in self.extra and not is_comment and not self.script.is_trailing_comma(self.there):
                return False
            self.there += 1
        return True


def find_places(script: Script, entry: ScriptEntry) -> tuple[list[Place], list[Region], list[Region]]:
    """The regions that are there, those that are not, and those that could be more than one place.

    Long patterns choose first, so that a short one does not take a part of them.
    """
    patterns = [make_pattern(region) for region in entry.edits]
    groups: dict[tuple[str, ...], list[int]] = {}
    for index, pattern in enumerate(patterns):
        groups.setdefault(pattern.shape, []).append(index)
    claimed: set[int] = set()
    places: dict[int, Place] = {}
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
            places[member] = Place(entry.edits[member], patterns[member], match)
    return (
        [places[index] for index in sorted(places)],
        [entry.edits[index] for index in sorted(missing)],
        [entry.edits[index] for index in sorted(doubtful)],
    )


def _matches(pattern: Pattern, script: Script, claimed: set[int]) -> Iterator[Match]:
    end = 0
    for index in script.candidates(pattern.tokens[0]):
        if index < end:
            continue
        whole = _Walk(pattern, script, index).match()
        match = whole and _without_anchor(whole, pattern.anchor)
        if match and claimed.isdisjoint(range(match.first, match.end)):
            end = match.end
            yield match


def _without_anchor(match: Match, anchor: int) -> Match:
    first = min((index for here, index in match.aligned.items() if here >= anchor), default=match.first)
    return Match(first, match.end, match.aligned, match.extra, match.values) if anchor else match


def _likeness(script: Script, region: Region, match: Match) -> int:
    """How much the surroundings are those recorded: neighbours that agree without a gap count most."""
    above = [token for token in lex(region.above) if token.solid]
    below = [token for token in lex(region.below) if token.solid]
    before = _solid(script, range(match.first - 1, -1, -1), 2 * len(above))
    after = _solid(script, range(match.end, len(script.tokens)), 2 * len(below))
    return _agreement(above[::-1], before) + _agreement(below, after)


def _solid(script: Script, indices: range, count: int) -> list[Token]:
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

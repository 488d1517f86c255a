"""What to look for: the tokens of a patch's region, with the values that a user may tune."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from energy_patch.record.schema import Region
from energy_patch.syntax.source import LINE_END
from energy_patch.syntax.tokens import COMMENT, NUMBER, OPENERS, STRING, Token, lex, partners

SEPARATORS = (",", ";")


@dataclass(frozen=True)
class Wildcard:
    """Pattern tokens `first:end` whose value the user may have changed; `label` is what it is the value of."""

    first: int
    end: int
    label: str


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


def make_pattern(region: Region) -> Pattern:
    """What to look for; empty where a region leaves nothing to look for."""
    core, _ = core_tokens(region)
    separators = [token for token in lex(region.after) if token.text in SEPARATORS]
    lead = any(token.start < core[0].start for token in separators if core)
    trail = any(token.start >= core[-1].end for token in separators if core)
    wildcards = _wildcards(core) if region.tunable else ()
    if core and not any(token.word or token.kind == STRING for token in core):
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
    wildcards = (Wildcard(count, count + len(core), label),) if region.tunable else ()
    return Pattern((*before, *core), count, wildcards, lead, trail)


def _wildcards(core: list[Token]) -> tuple[Wildcard, ...]:
    """The value of a sole assignment; otherwise the numbers that follow an equals sign."""
    equals = [index for index, token in enumerate(core) if token.text == "="]
    if len(equals) == 1 and not any(token.text in OPENERS for token in core[: equals[0]]):
        end = next((i for i, token in enumerate(core) if token.kind == COMMENT and i > equals[0]), len(core))
        if end > equals[0] + 1:
            return (Wildcard(equals[0] + 1, end, _label(core, equals[0])),)
    return tuple(
        Wildcard(index + 1, index + 2, _label(core, index))
        for index in equals
        if index + 1 < len(core) and core[index + 1].kind == NUMBER
    )


def _label(core: list[Token], equal: int) -> str:
    """The name before `=`, or before the colon of its annotation."""
    names = [index for index in range(equal) if core[index].word]
    annotated = [index for index in names if index + 1 < equal and core[index + 1].text == ":"]
    found = annotated[-1:] if annotated and core[equal - 2].text == ":" else names[-1:]
    return core[found[0]].text if found else "the value"

"""Reading a pattern at one place of a script, past what a formatter adds or drops."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from energy_patch.syntax.tokens import CLOSERS, COMMENT, Token, lex, partners, same
from energy_patch.unpatch.patterns import Pattern, Wildcard


class TokenizedScript:
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
class Match:
    """Tokens `first:end` of the script are the pattern; `aligned` maps pattern tokens to script tokens.

    `extra` are brackets that only the script has; `values` are the script tokens of each wildcard.
    """

    first: int
    end: int
    aligned: dict[int, int]
    extra: frozenset[int]
    values: tuple[tuple[int, int], ...]


class Reading:
    """One attempt to read a pattern at one place of the script."""

    def __init__(self, pattern: Pattern, script: TokenizedScript, at: int) -> None:
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
        start = self._value_start(self.there)
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

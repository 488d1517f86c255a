"""Python's tokens from any piece of text, with their offsets.

The standard library's `tokenize` wants a whole, balanced script and changed its tokens in 3.12. Here a
fragment may begin inside brackets, line ends may be CR, and an f-string is one token on every version.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import lru_cache
from keyword import iskeyword
from typing import NamedTuple

from energy_patch.syntax.source import parse, silent

NAME, NUMBER, STRING, COMMENT, OPERATOR, ERROR = "name", "number", "string", "comment", "operator", "error"
OPENERS = {"(": ")", "[": "]", "{": "}"}
CLOSERS = frozenset(OPENERS.values())
LAYOUT = frozenset("(),;")

_TOKEN = re.compile(
    r"""
      (?P<space>     [ \t\f\ufeff]+ | \\(?:\r\n|\r|\n) )
    | (?P<newline>   \r\n | \r | \n )
    | (?P<comment>   \#[^\r\n]* )
    | (?P<string>    (?:[bBuUfFtT]|[bBfFtT][rR]|[rR][bBfFtT]?)? (?:'''|\"""|'|") )
    | (?P<number>    0[xX][0-9a-fA-F_]+ | 0[bB][01_]+ | 0[oO][0-7_]+
                   | (?:[0-9][0-9_]*(?:\.[0-9_]*)?|\.[0-9][0-9_]*)(?:[eE][+-]?[0-9][0-9_]*)?[jJ]? )
    | (?P<name>      [^\W\d]\w* )
    | (?P<operator>  \*\*=|//=|>>=|<<=|\.\.\.|:=|->|!=|<=|>=|==|\+=|-=|\*=|/=|%=|&=|\|=|\^=|@=|\*\*|//|<<|>>
                   | [-+*/%@&|^~<>()\[\]{},:.;=!] )
    | (?P<error>     . )
    """,
    re.VERBOSE | re.DOTALL,
)
_CLOSED = {
    "'": re.compile(r"(?:\\(?:\r\n|.)|[^\\\r\n'])*'", re.DOTALL),
    '"': re.compile(r'(?:\\(?:\r\n|.)|[^\\\r\n"])*"', re.DOTALL),
    "'''": re.compile(r"(?:\\.|(?!''').)*'''", re.DOTALL),
    '"""': re.compile(r'(?:\\.|(?!""").)*"""', re.DOTALL),
}


class Token(NamedTuple):
    """`line` counts logical lines: it grows at line ends outside brackets."""

    kind: str
    text: str
    start: int
    end: int
    line: int

    @property
    def solid(self) -> bool:
        """Whether a formatter leaves it alone; brackets and separators may come and go."""
        return self.text not in LAYOUT

    @property
    def word(self) -> bool:
        """A name that is not a keyword."""
        return self.kind == NAME and not iskeyword(self.text)


def lex(text: str) -> list[Token]:
    """All tokens but white space and line ends; what is no token has the kind `error`."""
    tokens: list[Token] = []
    position, depth, line = 0, 0, 0
    while position < len(text):
        match = _TOKEN.match(text, position)
        assert match is not None  # the last alternative takes any character
        kind, end = match.lastgroup or ERROR, match.end()
        if kind == STRING:
            closed = _string_end(text, match.group(), end)
            kind, end = (STRING, closed) if closed else (ERROR, end)
        if kind == "newline":
            line += not depth
        elif kind != "space":
            piece = text[position:end]
            tokens.append(Token(kind, piece, position, end, line))
            depth = max(0, depth + (piece in OPENERS) - (piece in CLOSERS))
        position = end
    return tokens


def partners(tokens: list[Token]) -> dict[int, int]:
    """Index of each bracket's counterpart, both ways; brackets without one are left out."""
    pairs: dict[int, int] = {}
    waiting: list[int] = []
    for index, token in enumerate(tokens):
        if token.text in OPENERS:
            waiting.append(index)
        elif token.text in CLOSERS and waiting and OPENERS[tokens[waiting[-1]].text] == token.text:
            opener = waiting.pop()
            pairs[opener], pairs[index] = index, opener
    return pairs


def same(one: Token, other: Token) -> bool:
    """Whether two tokens mean the same: quotes, a comment's first blank, and how a number's zeros and letters are
    written do not count."""
    if one.text == other.text:
        return True
    return one.kind == other.kind and _normal(one.kind, one.text) == _normal(other.kind, other.text)


@lru_cache(maxsize=4096)
def _normal(kind: str, text: str) -> str:
    if kind == COMMENT:
        return "#" + text[1:].strip()
    if kind == NUMBER:
        return re.sub(r"\.(?!\d)", ".0", re.sub(r"^\.", "0.", text.lower()))
    if kind == STRING:
        return _normal_string(text)
    return text


def _normal_string(text: str) -> str:
    try:
        with silent():
            return repr(ast.literal_eval(text))
    except (ValueError, SyntaxError, RecursionError):  # an f-string has no value of its own
        return _normal_formatted(text)


def _normal_formatted(text: str) -> str:
    """What an f-string says, however its fields are laid out."""
    try:
        return ast.dump(parse(text).body[0])
    except (ValueError, SyntaxError, RecursionError):  # of a newer Python
        prefix, quote, body = _parts(text)
        return f"{prefix.lower()}|{body}" if "\\" not in body and not set(quote) & set(body) else text


def _parts(text: str) -> tuple[str, str, str]:
    start = min(index for index in (text.find("'"), text.find('"')) if index >= 0)
    length = 3 if text[start : start + 3] in ("'''", '"""') and len(text) >= start + 6 else 1
    return text[:start], text[start : start + length], text[start + length : len(text) - length]


def _string_end(text: str, opening: str, position: int) -> int | None:
    """Where a string ends whose opening quote was just read; None if it does not."""
    prefix, quote = opening.rstrip("'\""), opening.lstrip("bBuUfFtTrR")
    if set(prefix.lower()) & {"f", "t"}:
        end = _formatted_end(text, position, quote, raw="r" in prefix.lower())
        if end is not None:
            return end
    match = _CLOSED[quote].match(text, position)
    return match.end() if match else None


def _formatted_end(text: str, position: int, quote: str, *, raw: bool) -> int | None:
    """The end of an f-string; since 3.12 its fields may hold the very quote that it is written with."""
    while position < len(text):
        character = text[position]
        if text.startswith(quote, position):
            return position + len(quote)
        if text.startswith("\\N{", position) and not raw:
            position = text.find("}", position) + 1 or len(text)
        elif character == "\\":
            position += 1 if text.startswith("{", position + 1) else 2
        elif text.startswith("{{", position):
            position += 2
        elif character == "{":
            end = _field_end(text, position + 1, quote, raw=raw)
            if end is None:
                return None
            position = end
        elif character in "\r\n" and len(quote) == 1:
            return None
        else:
            position += 1
    return None


def _field_end(text: str, position: int, quote: str, *, raw: bool) -> int | None:
    """Just behind the brace that closes a replacement field."""
    depth = 0
    while position < len(text):
        match = _TOKEN.match(text, position)
        assert match is not None
        kind, piece, position = match.lastgroup, match.group(), match.end()
        if kind == STRING:
            end = _string_end(text, piece, position)
            if end is None:
                return None
            position = end
        elif piece in OPENERS:
            depth += 1
        elif piece in CLOSERS and depth:
            depth -= 1
        elif piece == "}":
            return position
        elif (piece == ":" and not depth) or (piece == ":=" and not depth):
            return _specification_end(text, match.start() + 1, quote, raw=raw)
    return None


def _specification_end(text: str, position: int, quote: str, *, raw: bool) -> int | None:
    """The end of a field whose format specification, literal text with fields of its own, begins here."""
    while position < len(text):
        if text.startswith("}", position):
            return position + 1
        if text.startswith(quote, position):
            return None
        if text.startswith("{", position):
            end = _field_end(text, position + 1, quote, raw=raw)
            if end is None:
                return None
            position = end
        else:
            position += 1
    return None


def identifiers(text: str) -> Iterator[tuple[str, int]]:
    """Every identifier that a script uses, binds or imports, with its line.

    Raises:
        SyntaxError, ValueError, RecursionError: the text is not Python.
    """
    for node in ast.walk(parse(text)):
        line = getattr(node, "lineno", 1)
        for key in ("id", "attr", "arg", "name", "asname", "module"):
            value = getattr(node, key, None)
            if isinstance(value, str):
                yield from ((part, line) for part in value.split("."))
        if isinstance(node, ast.Global | ast.Nonlocal):
            yield from ((name, line) for name in node.names)

"""What stands written in a script: arguments, parameters and other items between brackets, with their places."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from energy_patch.syntax.places import Span


@dataclass(frozen=True)
class Item:
    """One argument or parameter: its span without the comma, and the offset just after its comma, if it has one."""

    span: Span
    comma_end: int | None
    name: str | None
    star: str = ""


@dataclass(frozen=True)
class Argument(Item):
    """An argument of a call; `name` is its keyword, `value` its expression as written."""

    value: str = ""
    is_literal: bool = False


@dataclass(frozen=True)
class Parameter(Item):
    """A parameter of a function; `equal` is how its default is attached, e.g. ` = `."""

    annotated: bool = False
    default: str | None = None
    equal: str = "="


@dataclass(frozen=True)
class Bracketed:
    """What stands between two parentheses, which are at `open` and `close`."""

    open: int
    close: int
    items: tuple[Item, ...]


@dataclass(frozen=True)
class Display:
    """A dictionary or list written out.

    `value` is how an entry's value is written, with `{figure}` or `{key}` where these stand; in a list of names it is
    `{key}`, and None where no other entry can be written like it.
    """

    line: int
    inside: Bracketed
    value: str | None


def is_number(text: str) -> bool:
    """Whether a text is a decimal literal without a sign."""
    return re.fullmatch(r"[0-9][0-9_]*(?:\.[0-9_]*)?(?:[eE][+-]?[0-9]+)?|\.[0-9]+", text) is not None


def listed(names: Iterable[object]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    words = [str(name) for name in names]
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)

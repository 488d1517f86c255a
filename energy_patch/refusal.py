"""The one way to say no: a reason that scripts can test, and a sentence that a person can act on."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Literal

Reason = Literal["not-found", "ambiguous", "unsupported", "conflict", "patch-modified", "unreadable", "unwritable"]


def renumbered(text: str, line_of: Callable[[int], int]) -> str:
    """A text with its line numbers, all written as "line 12", as they are in another version of the script."""
    return re.sub(r"\bline (\d+)", lambda found: f"line {line_of(int(found[1]))}", text)


class WrongUse(Exception):
    """The command line asks for what does not exist, as only the script shows; nothing was written."""


class Refusal(Exception):
    """Nothing was written. `message` says what was seen and what to do; `line` is 1-based."""

    def __init__(self, reason: Reason, message: str, *, line: int | None = None) -> None:
        super().__init__(message)
        self.reason: Reason = reason
        self.message = message
        self.line = line

    def about(self, name: str) -> Refusal:
        """The same, of a file that the user did not name: a module that the script imports."""
        where = f"{name}, line {self.line}" if self.line else name
        return Refusal(self.reason, f"{where}: {self.message}")


class NotCalled(Refusal):
    """The script does not call the loss: where others of the same command do, it is only listed."""


class PatchedThrough(Refusal):
    """The file is a module that is patched together with `script`, which imports it."""

    def __init__(self, message: str, script: Path) -> None:
        super().__init__("conflict", message)
        self.script = script

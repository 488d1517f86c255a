"""What the demo tells on the console."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TextIO


def shown(path: Path) -> str:
    """The path as the user would type it."""
    return os.path.relpath(path) if path.is_relative_to(Path.cwd()) else str(path)


def say(console: TextIO, *lines: str) -> None:
    """Write lines; what the console cannot show is escaped."""
    encoding = console.encoding or "utf-8"  # a StringIO has none; a console may not know every character
    for line in lines:
        console.write(line.encode(encoding, "backslashreplace").decode(encoding) + "\n")
    console.flush()

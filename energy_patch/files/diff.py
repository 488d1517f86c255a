"""Unified diffs that `git apply` turns into the very same bytes."""

from __future__ import annotations

import difflib
import itertools
import os
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path

from energy_patch.files.transaction import FileChange
from energy_patch.record.schema import RECORD_NAME
from energy_patch.strategies.base import FOLDER_NAME

CONTEXT = 3
_ESCAPES = {7: "a", 8: "b", 9: "t", 10: "n", 11: "v", 12: "f", 13: "r", 34: '"', 92: "\\"}
_RESET, _BOLD, _RED, _GREEN, _CYAN = b"\x1b[m", b"\x1b[1m", b"\x1b[31m", b"\x1b[32m", b"\x1b[36m"


def unified_diff(changes: Iterable[FileChange], cwd: Path, full: bool) -> bytes:
    """The changes as one diff; without `full` only those of the scripts.

    Paths are relative to `cwd`, or as in git's own diffs to the top of the working tree that `cwd` lies in: from a
    folder below, `git apply` passes over any other without a word.
    """
    base = _top(cwd.resolve())
    pieces: list[bytes] = []
    for change in _collapsed(changes):
        ours = change.path.parent.name == FOLDER_NAME and change.path.name.endswith((".py", RECORD_NAME))
        if full or not ours:
            pieces += _file_diff(change, base)
    return b"".join(pieces)


def _collapsed(changes: Iterable[FileChange]) -> list[FileChange]:
    """One change for each path, from its first `before` to its last `after`."""
    byte_pairs: dict[Path, tuple[bytes | None, bytes | None]] = {}
    for change in changes:
        before, _ = byte_pairs.get(change.path, (change.before, None))
        byte_pairs[change.path] = before, change.after
    return [FileChange(path, *pair) for path, pair in byte_pairs.items() if pair[0] != pair[1]]


def _top(cwd: Path) -> Path:
    return next((folder for folder in (cwd, *cwd.parents) if (folder / ".git").exists()), cwd)


def _file_diff(change: FileChange, base: Path) -> Iterator[bytes]:
    relative = os.path.relpath(change.path.resolve(), base).replace(os.sep, "/")
    old, new = _quoted(f"a/{relative}"), _quoted(f"b/{relative}")
    yield b"diff --git %s %s\n" % (old, new)
    if change.before is None:
        yield b"new file mode 100644\n"
    if change.after is None:
        yield b"deleted file mode %s\n" % _mode(change.path)
    before, after = change.before or b"", change.after or b""
    if before != after:
        yield b"--- %s\n" % (b"/dev/null" if change.before is None else _ended(old))
        yield b"+++ %s\n" % (b"/dev/null" if change.after is None else _ended(new))
        yield from _hunks(_lines(before), _lines(after))


def _quoted(path: str) -> bytes:
    """A path as git writes it: octal escapes within quotes, as soon as one character needs them."""
    raw = os.fsencode(path)
    if all(0x20 <= byte < 0x7F and byte not in (0x22, 0x5C) for byte in raw):
        return raw
    escaped = (
        f"\\{_ESCAPES[byte]}" if byte in _ESCAPES else chr(byte) if 0x20 <= byte < 0x7F else f"\\{byte:03o}"
        for byte in raw
    )
    return b'"' + "".join(escaped).encode("ascii") + b'"'


def _ended(name: bytes) -> bytes:
    """A tab tells git where a name with blanks ends."""
    return name + b"\t" if b" " in name and not name.startswith(b'"') else name


def _mode(path: Path) -> bytes:
    try:
        executable = path.stat().st_mode & stat.S_IXUSR
    except OSError:
        return b"100644"
    return b"100755" if executable else b"100644"


def _lines(raw: bytes) -> list[bytes]:
    """Lines by LF alone, as git sees them; `splitlines` would break at CR and form feeds."""
    lines = [line + b"\n" for line in raw.split(b"\n")]
    last = lines.pop()[:-1]
    return [*lines, last] if last else lines


def _hunks(before: list[bytes], after: list[bytes]) -> Iterator[bytes]:
    """The hunks without the two header lines, which git wants quoted in its own way."""
    for line in itertools.islice(difflib.diff_bytes(difflib.unified_diff, before, after, n=CONTEXT), 2, None):
        yield line if line.endswith(b"\n") else line + b"\n\\ No newline at end of file\n"


def color(diff: bytes) -> bytes:
    """The same diff with the colors that git uses on a terminal."""
    painted: list[bytes] = []
    header = False
    for line in _lines(diff):
        header = not line.startswith(b"@@") if header else line.startswith(b"diff --git ")
        body = line.rstrip(b"\r\n")
        paint = _BOLD if header else {b"@": _CYAN, b"-": _RED, b"+": _GREEN}.get(line[:1], b"")
        painted.append(paint + body + _RESET + line[len(body) :] if paint else line)
    return b"".join(painted)

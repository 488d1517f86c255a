"""Faults put in the place of single file operations."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import itertools
import os
import signal
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

OPERATIONS: tuple[tuple[Any, str], ...] = (
    (os, "open"), (os, "write"), (os, "fsync"), (os, "close"), (os, "access"), (os, "chown"), (fcntl, "flock"),
    (Path, "replace"), (Path, "unlink"), (Path, "mkdir"), (Path, "rmdir"), (Path, "chmod"), (Path, "read_bytes"),
    (Path, "stat"), (Path, "iterdir"), (Path, "glob"),
)  # fmt: skip
Fault = Callable[[str, Callable[[], Any]], Any]


@contextlib.contextmanager
def faults(at: int, fault: Fault, *, sticky: bool = False) -> Iterator[Callable[[], int]]:
    """Call `fault` in the place of the `at`-th file operation, or of all from there on."""
    count = 0

    def wrap(name: str, original: Callable[..., Any]) -> Callable[..., Any]:
        def operation(*arguments: Any, **keywords: Any) -> Any:
            nonlocal count
            count += 1
            if count == at or (sticky and count > at):
                if name == "close":  # even where it fails, the file is closed
                    original(*arguments, **keywords)
                    return fault(name, lambda: None)
                return fault(name, lambda: original(*arguments, **keywords))
            return original(*arguments, **keywords)

        return operation

    with pytest.MonkeyPatch.context() as patch:
        for owner, name in OPERATIONS:
            patch.setattr(owner, name, wrap(name, getattr(owner, name)))
        yield lambda: count


def full_disk(name: str, go_on: Callable[[], Any]) -> Any:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def full_for_writes(name: str, go_on: Callable[[], Any]) -> Any:
    """Nothing new fits any more; what only moves or removes still works."""
    if name in ("write", "mkdir"):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    return go_on()


def interrupt(name: str, go_on: Callable[[], Any]) -> Any:
    raise KeyboardInterrupt


def interrupt_behind(name: str, go_on: Callable[[], Any]) -> Any:
    go_on()
    raise KeyboardInterrupt


def kill(name: str, go_on: Callable[[], Any]) -> Any:
    os.kill(os.getpid(), signal.SIGKILL)


def points() -> Iterator[int]:
    return itertools.count(1)


def reset(folder: Path, to: Mapping[str, bytes]) -> None:
    """Put a folder back to a snapshot, with the modes of the fixture."""
    for path in sorted(folder.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    for name, content in sorted(to.items()):
        if name.endswith("/"):
            (folder / name).mkdir()
        else:
            (folder / name).write_bytes(content)
    (folder / "two.py").chmod(0o755)

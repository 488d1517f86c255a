"""Keeping two runs of energy-patch apart."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from energy_patch.files.folder import (
    TEMPORARY_PREFIX,
    TEMPORARY_SUFFIX,
    script_home,
)
from energy_patch.refusal import Refusal
from energy_patch.strategies.base import FOLDER_NAME

if sys.platform != "win32":
    import fcntl


@contextlib.contextmanager
def exclusive(paths: Iterable[Path]) -> Iterator[None]:
    """Keep other runs away from the folders of these scripts, from reading them to the last write.

    The lock lies on the folder itself, so no file is left behind, and a killed run gives it back. Where the system
    has no such lock, files that change between reading and writing are still noticed.

    Raises:
        Refusal: `unwritable`, where another run does not end.
    """
    with locked({script_home(path)[0] for path in paths}):
        yield


_HELD: set[Path] = set()


PATIENCE = 5.0  # seconds


@contextlib.contextmanager
def locked(folders: set[Path]) -> Iterator[None]:
    """Lock what this process has not locked yet. Under a lock any temporary file is a killed run's."""
    with contextlib.ExitStack() as stack:
        for folder in sorted(folders - _HELD):
            if folder.is_dir() and _lock(folder, stack):
                stack.callback(_HELD.discard, folder)
                _HELD.add(folder)
                for place in (folder, folder / FOLDER_NAME):
                    for path in place.glob(f"{TEMPORARY_PREFIX}*{TEMPORARY_SUFFIX}"):
                        path.unlink()
        yield


def _lock(folder: Path, stack: contextlib.ExitStack) -> bool:
    if sys.platform == "win32":
        return False
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:
        return False
    stack.callback(_close, descriptor)
    until = time.monotonic() + PATIENCE
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > until:
                message = f"another energy-patch is at work in {folder}; run again when it is done"
                raise Refusal("unwritable", message) from None
            time.sleep(0.02)
        except OSError:
            return False
        else:
            return True


def _close(descriptor: int) -> None:
    """All is done by then: that a lock could not be given back properly is no failure."""
    with contextlib.suppress(OSError):
        os.close(descriptor)

"""One file, atomically: its new content beside it, on the disk, and then in its place."""

from __future__ import annotations

import contextlib
import os
import stat
import sys
from pathlib import Path

from energy_patch.refusal import Refusal


def write_temporary(path: Path, target: Path, content: bytes) -> None:
    """The content, on the disk, with the mode and where possible the owner of the file that it will replace."""
    kept = kept_status(target)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666)
    try:
        view = memoryview(content)
        while view:
            view = view[os.write(descriptor, view) :]
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    if kept is not None:
        keep_owner(path, kept)
        path.chmod(stat.S_IMODE(kept.st_mode))


def kept_status(target: Path) -> os.stat_result | None:
    try:
        status = target.stat()
    except FileNotFoundError:
        return None
    if not stat.S_ISREG(status.st_mode):
        raise Refusal("unwritable", f"{target} is not a regular file; nothing was changed")
    if not os.access(target, os.W_OK):
        raise Refusal("unwritable", f"{target} is read-only; make it writable and run again")
    return status


def keep_owner(path: Path, kept: os.stat_result) -> None:
    if sys.platform == "win32":
        return
    status = path.stat()
    if (status.st_uid, status.st_gid) != (kept.st_uid, kept.st_gid):
        with contextlib.suppress(OSError):
            os.chown(path, -1, kept.st_gid)
        with contextlib.suppress(OSError):
            os.chown(path, kept.st_uid, -1)


def put(temporary: Path | None, path: Path) -> None:
    """Give a file the content of a temporary one, which is gone afterwards; without one, remove the file."""
    if temporary is None:
        path.unlink()
    else:
        temporary.replace(path)
    _flush_folder(path.parent)


def _flush_folder(folder: Path) -> None:
    """Make the new name last through a power cut, where the system can."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

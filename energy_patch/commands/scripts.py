"""The scripts that a call names: files, and all Python files of a folder."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from energy_patch.files.folder import script_home
from energy_patch.refusal import NotCalled, PatchedThrough, Refusal
from energy_patch.strategies.base import FOLDER_NAME

FEW = 5  # scripts, each of which is told about by itself
PASSED_FOLDERS = frozenset({FOLDER_NAME, "__pycache__", "node_modules", "site-packages"})


@dataclass(frozen=True)
class Scripts:
    """The files of a call, each once, and which of them stop nobody.

    A file whose bytes do not hold `word` is not concerned. `has_folder` says that some were found in a folder;
    `is_lenient`, that one file alone may be passed over too.
    """

    paths: tuple[Path, ...]
    word: str
    has_folder: bool = False
    is_lenient: bool = False

    @property
    def are_many(self) -> bool:
        """Whether those that are not concerned are listed by name alone."""
        return self.has_folder or len(self.paths) > FEW

    def passes(self, path: Path, refusal: Refusal) -> bool:
        """Whether a refused file is only listed.

        So is one of several that does not call the loss, is patched together with another of them, or is no Python and
        not concerned.
        """
        if isinstance(refusal, PatchedThrough):
            return self.is_lenient or script_home(refusal.script) in {script_home(other) for other in self.paths}
        if not (self.is_lenient or self.has_folder or len(self.paths) > 1):
            return False
        return isinstance(refusal, NotCalled) or (refusal.reason == "unreadable" and not self.concerns(path))

    def concerns(self, path: Path) -> bool:
        """Whether a file holds the word; one that cannot be read may."""
        try:
            return not path.is_file() or self.word.encode() in path.read_bytes()
        except OSError:
            return True


def named_scripts(named: Sequence[Path], word: str, *, is_lenient: bool = False) -> Scripts:
    """The files that are named, and the Python files below each folder that is; a link and its target are one.

    A folder without any stands for itself: that it is no script is said where it is read.
    """
    found = [file for path in named for file in (_python_files(path) if path.is_dir() else [path])]
    once = {script_home(path): path for path in reversed(found)}
    return Scripts(tuple(once.values())[::-1], word, any(path.is_dir() for path in named), is_lenient)


def _python_files(folder: Path) -> list[Path]:
    return [*_walked(folder)] or [folder]


def _walked(folder: Path) -> Iterator[Path]:
    """By name, without what is hidden, installed or ours."""
    for place, folders, files in os.walk(folder):
        here = Path(place)
        folders[:] = sorted(name for name in folders if not _is_passed(here / name))
        yield from (here / name for name in sorted(files) if _is_script(here / name))


def _is_script(path: Path) -> bool:
    """Whether it is a Python file; an editor's lock is hidden, and leads nowhere."""
    return path.name.endswith(".py") and not path.name.startswith(".") and path.is_file()


def _is_passed(folder: Path) -> bool:
    return folder.name.startswith(".") or folder.name in PASSED_FOLDERS or (folder / "pyvenv.cfg").exists()

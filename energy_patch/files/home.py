"""The folder of a script: its record, and the files that are patched together as they are now."""

from __future__ import annotations

import os
from collections.abc import Collection
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

from energy_patch.files.folder import FolderState, inspect_folder, script_home
from energy_patch.record.schema import Record, ScriptEntry
from energy_patch.refusal import PatchedThrough, Refusal, renumbered
from energy_patch.syntax.source import Source, decode_source, read_source
from energy_patch.unpatch.current import current_entry
from energy_patch.unpatch.undo import Undone, undo

LEVELS = 8  # how far above a module the script that it is patched with is looked for


@dataclass(frozen=True)
class PatchedFile:
    """A file as it is now, under the name by which it is recorded; `entry` is None where it is not patched.

    `is_module` says that the user named a script that imports it.
    """

    name: str
    source: Source
    entry: ScriptEntry | None
    is_module: bool = False

    @cached_property
    def undone(self) -> Undone | None:
        """What taking the patch out gives. Raises `Refusal` where it is not intact."""
        try:
            return undo(self.source, self.entry) if self.entry is not None else None
        except Refusal as refusal:
            raise (refusal.about(self.name) if self.is_module else refusal) from None

    @cached_property
    def original(self) -> Source:
        """The source as it would be after `revert`. Raises `Refusal` where the patch is not intact."""
        if self.undone is None:
            return self.source
        return decode_source(self.source.path, self.source.encode(self.undone.text))

    def line_now(self, line: int) -> int:
        """The line in this file of a line of its original."""
        return self.undone.line_now(line) if self.undone is not None else line


@dataclass(frozen=True)
class Home:
    """The folder that holds scripts and their `energy_losses/`, with what was read there."""

    folder: Path
    state: FolderState
    known: dict[Path, PatchedFile] = field(default_factory=dict)

    @property
    def record(self) -> Record:
        return self.state.record or Record()

    def name(self, path: Path) -> str:
        """The name by which a file in or below this folder is recorded."""
        return path.resolve().relative_to(self.folder).as_posix()

    def file(self, path: Path) -> PatchedFile:
        """One file with its entry, read once. Raises `Refusal` where it cannot be read."""
        if path not in self.known:
            source, name = read_source(path), self.name(path)
            self.known[path] = PatchedFile(name, source, current_entry(self.state.record, name, source.raw))
        return self.known[path]

    def files(self, script: Path) -> tuple[PatchedFile, ...]:
        """A script, and the modules that were patched with it, as far as they are there."""
        first = self.file(script)
        there = (path for name in _reaches(first) if (path := self.folder / name).is_file())
        return (first, *(replace(self.file(path), is_module=True) for path in there))

    def missing(self, script: Path) -> tuple[str, ...]:
        """The modules that were patched with a script and are not there any more."""
        return tuple(name for name in _reaches(self.file(script)) if not (self.folder / name).is_file())

    def origin(self, script: Path) -> tuple[str, ...]:
        """A note of which recorded script this one is a copy or the new name; none where it is recorded itself."""
        name = self.state.known_by.get(self.name(script))
        if name is None:
            return ()
        what = "a copy of" if (self.folder / name).is_file() else "the new name of"
        return (f"known by its content: {what} {name}",)

    def original(self, path: Path) -> Source:
        """A file without its patch. Raises `Refusal` where that cannot be taken out."""
        return self.file(path).original

    def as_it_stands(self, script: Path, refusal: Refusal) -> Refusal:
        """A refusal of a file's original, with the lines that this file has now."""
        modules = [
            file for path, file in self.known.items() if refusal.message.startswith((f"{file.name}:", f"{file.name}, "))
        ]
        file = next(iter(modules), None) or self.file(script)
        line = file.line_now(refusal.line) if refusal.line is not None else None
        refusal.message, refusal.line = renumbered(refusal.message, file.line_now), line
        return refusal

    def reaching(self, name: str) -> tuple[str, ...]:
        """The scripts that a module is patched with."""
        return tuple(script for script, entry in self.record.scripts.items() if name in entry.reaches)


def _reaches(file: PatchedFile) -> tuple[str, ...]:
    return file.entry.reaches if file.entry is not None else ()


def home_of(path: Path) -> Home:
    """The folder of a script.

    Raises:
        Refusal: the folder's record cannot be used, or `energy_losses/` there is somebody else's.
    """
    folder, _ = script_home(path)
    return Home(folder, inspect_folder(folder))


def patched_with(path: Path) -> Path | None:
    """The script that a module is patched together with, relative to the working directory."""
    folder = path.resolve().parent
    for parent in [folder, *folder.parents][:LEVELS]:
        try:
            home = Home(parent, inspect_folder(parent))
        except Refusal:
            continue
        scripts = home.reaching(home.name(path))
        if scripts:
            return Path(os.path.relpath(parent / scripts[0]))
    return None


def refuse_reached(path: Path, together: Collection[Path] = ()) -> None:
    """Refuse a module that is patched through a script: the two change together.

    One that is patched by itself as well may be named beside that script.

    Raises:
        PatchedThrough: it is.
    """
    script = patched_with(path)
    if script is None:
        return
    if script.resolve() in together and script.resolve().parent == path.resolve().parent:
        entry = home_of(path).file(path).entry
        if entry is not None and entry.by_itself:
            return
    message = f"is patched together with {script}, which imports it; name that script instead"
    raise PatchedThrough(message, script)

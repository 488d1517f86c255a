"""The patch that a script bears: what is in place, with which values, and where its lines are now."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from energy_patch.diagnose.study import Patch, Place
from energy_patch.files.home import PatchedFile
from energy_patch.record.schema import ScriptEntry, described
from energy_patch.refusal import Refusal
from energy_patch.strategies.base import Value
from energy_patch.strategies.registry import strategies
from energy_patch.syntax.source import Source
from energy_patch.unpatch.undo import Held, Undone


@dataclass(frozen=True)
class Bearing:
    """A patched script and its modules: `source` is the script's text without the patch, if that is as it was written.

    `state` says what the script is, in words; `in_place` are the edits on their lines of today.
    """

    patch: Patch
    source: Source
    state: str
    notes: tuple[str, ...] = ()
    in_place: tuple[Place, ...] = ()
    files: tuple[PatchedFile, ...] = ()

    def line_now(self, path: Path, line: int) -> int:
        """Today's line of a line of a file without its patch."""
        found = next((file for file in self.files if file.source.path.resolve() == path.resolve()), None)
        return found.line_now(line) if found is not None else line


def bearing(files: Sequence[PatchedFile]) -> Bearing:
    """What a script bears that has an entry in the record, as the first of the files that are patched together."""
    script, entry = files[0], files[0].entry
    assert entry is not None
    bears = [file for file in files if file.entry is not None]
    try:
        undone = [file.undone for file in bears if file.undone is not None]
    except Refusal:
        command = f"energy-patch status {shlex.quote(str(script.source.path))}"
        note = f"was patched with {described(entry)}; `{command}` lists the lines that changed since"
        return Bearing(_patch(entry, [], is_intact=False), script.source, "patch modified", (note,))
    is_exact = all(item.exact for item in undone)
    held = [value for item in undone for value in item.held]
    return Bearing(
        _patch(entry, held, is_intact=True),
        script.original,
        f"patched, {described(entry)}",
        (
            *(() if is_exact else ("edited since apply; the patch in it is intact",)),
            *(note for item in undone for note in item.notes),
        ),
        tuple(_in_place(bears, undone)),
        tuple(bears),
    )


def _in_place(files: Sequence[PatchedFile], undone: Sequence[Undone]) -> Iterable[Place]:
    for file, old in zip(files, undone, strict=True):
        assert file.entry is not None
        for edit, line in zip(file.entry.edits, old.lines, strict=True):
            yield Place(line, edit.title, file.name if file.is_module else None)


def _patch(entry: ScriptEntry, held: Sequence[Held], *, is_intact: bool) -> Patch:
    """The strategy with the values in the script: tuned ones first, then recorded ones, then defaults."""
    chosen = strategies().get(entry.strategy)
    options = {item.name: item.default for item in chosen.options} if chosen is not None else {}
    options |= entry.options
    for item in sorted(held, key=lambda item: not item.owner):  # a config's field goes before a parameter's default
        if item.option in options:
            options[item.option] = _read(item.value, options[item.option])
    return Patch(chosen, options, is_intact)


def _read(text: str, default: Value) -> Value:
    """A value as it stands in the script; the text itself where it is no number."""
    try:
        return type(default)(text)
    except ValueError:
        return text

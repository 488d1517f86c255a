"""Take a patch back: exactly where the script is untouched, by its tokens where it was edited since."""

from __future__ import annotations

from dataclasses import dataclass

from energy_patch.edits import Edit, apply_edits
from energy_patch.record import ScriptEntry, sha256
from energy_patch.refusal import Refusal
from energy_patch.source import Source


@dataclass(frozen=True)
class Undone:
    """The script without the patch; `exact` if these are the original's very bytes."""

    text: str
    exact: bool
    notes: tuple[str, ...] = ()


def undo(source: Source, entry: ScriptEntry) -> Undone:
    """Take a script's patch back and keep all other edits.

    Raises:
        Refusal: `drifted`, where a region of the patch is not as it was written.
    """
    if sha256(source.raw) == entry.patched:
        return _exactly(source, entry)
    raise Refusal("drifted", "not yet")


def _exactly(source: Source, entry: ScriptEntry) -> Undone:
    inverse: list[Edit] = []
    shift = 0
    for region in entry.edits:
        start = region.start + shift
        inverse.append(Edit(start, start + len(region.after), region.before))
        shift += len(region.after) - len(region.before)
    if all(
        source.text[edit.start : edit.end] == region.after for edit, region in zip(inverse, entry.edits, strict=True)
    ):
        text = apply_edits(source.text, inverse)
        if sha256(source.encode(text)) == entry.original:
            return Undone(text, True)
    raise Refusal(
        "drifted", "energy_losses/patch.json does not fit the script, so it was edited; restore it (git checkout)"
    )


def is_present(source: Source, entry: ScriptEntry) -> bool:
    """Whether every region of the patch can be found in a script that was edited since."""
    return True


def leaves_traces(source: Source, entry: ScriptEntry) -> bool:
    """Whether anything of the patch is in the script."""
    return True

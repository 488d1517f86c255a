"""The refusal of a patch that is not as it was written: what changed, and the lines that would have to go."""

from __future__ import annotations

from energy_patch.record.schema import Region, ScriptEntry
from energy_patch.refusal import Refusal
from energy_patch.syntax.source import Source
from energy_patch.unpatch.matching import TokenizedScript
from energy_patch.unpatch.regions import FoundRegion


def patch_modified(
    source: Source,
    script: TokenizedScript,
    entry: ScriptEntry,
    places: list[FoundRegion],
    missing: list[Region],
    doubtful: list[Region],
) -> Refusal:
    """Name what changed, and print the lines that would have to go."""
    said = ["was edited since, and not all of the patch is as it was written; nothing was changed."]
    if missing:
        said.append("Changed or missing:")
        said += [f"    (line {region.line} when patched) {one_line(region.after)}" for region in missing]
    if doubtful:
        said.append("In more places than the patch wrote it to:")
        said += [f"    (line {region.line} when patched) {one_line(region.after)}" for region in doubtful]
    said.append("Put these back as they were and run revert again, or take the patch out by hand. Its lines:")
    lines: dict[int, str] = {}
    for place in places:
        first, last = script.tokens[place.match.first], script.tokens[place.match.end - 1]
        for number in range(source.line_of(first.start), source.line_of(last.start) + 1):
            lines[number] = f"    {number}: {source.line_text(number).strip()}"
        if place.region.before.strip():
            lines[source.line_of(last.start)] += f"\n        was: {one_line(place.region.before)}"
    for token in script.tokens:
        number = source.line_of(token.start)
        if token.word and token.text in entry.names and not entry.names[token.text] and number not in lines:
            lines[number] = f"    {number}: {source.line_text(number).strip()}"
    said += [lines[number] for number in sorted(lines)] or ["    (none is left)"]
    return Refusal("drifted", "\n".join(said), line=min(lines, default=None))


def one_line(text: str) -> str:
    return " ".join(text.split())

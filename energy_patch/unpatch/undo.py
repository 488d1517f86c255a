"""Take a patch back: exactly where the script is untouched, by its tokens where it was edited since.

By tokens means: each region of the patch must still say what it said. Layout, brackets and commas that a formatter
adds or drops do not count, comments do, and the value of a tunable region may have changed. What the user wrote
elsewhere stays byte for byte.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from energy_patch.record.schema import RECORD_NAME, ScriptEntry, sha256
from energy_patch.refusal import Refusal
from energy_patch.rewrite.edits import Edit, apply_edits
from energy_patch.strategies.base import FOLDER_NAME
from energy_patch.syntax.source import Source, check_compiles
from energy_patch.syntax.tokens import ERROR, lex, same
from energy_patch.unpatch.matching import TokenizedScript
from energy_patch.unpatch.modified import patch_modified
from energy_patch.unpatch.patterns import make_pattern
from energy_patch.unpatch.proofs import check_names, check_result, check_same_meaning, line_now
from energy_patch.unpatch.regions import FoundRegion, find_regions
from energy_patch.unpatch.splices import splices_of, text_of


@dataclass(frozen=True)
class Held:
    """A value in the patch: its name, its text now, whose option's value it is, and whether the user changed it.

    `owner` is the function that it is a parameter's default of, empty elsewhere.
    """

    name: str
    value: str
    option: str = ""
    is_tuned: bool = False
    owner: str = ""

    def __str__(self) -> str:
        return f"{self.owner}'s {self.name} = {self.value}" if self.owner else f"{self.name} = {self.value}"


@dataclass(frozen=True)
class Undone:
    """The script without the patch; `exact` if these are the original's very bytes.

    `lines` are the lines on which the entry's edits stand now; `splices` are what takes them out of `patched`; `held`
    are the values that the user may tune.
    """

    text: str
    exact: bool
    patched: Source
    lines: tuple[int, ...]
    splices: tuple[Edit, ...]
    held: tuple[Held, ...] = ()

    @property
    def notes(self) -> tuple[str, ...]:
        """A line for each value that the user changed."""
        return tuple(f"{item} is your own value" for item in self.held if item.is_tuned)

    def line_now(self, line: int) -> int:
        """The line in the patched script of a line of `text`."""
        return line_now(self.patched, self.text, self.splices, line)


def undo(source: Source, entry: ScriptEntry) -> Undone:
    """Take a script's patch back and keep all other edits.

    Raises:
        Refusal: `patch-modified`, where a region of the patch is not as it was written; it lists the lines.
            `unreadable`, where the record does not fit the script.
    """
    if sha256(source.raw) == entry.patched:
        return _exactly(source, entry)
    _check_readable(source)
    script = TokenizedScript(source.text)
    places = _found(source, script, entry)
    splices, rewritten = splices_of(script, places)
    if rewritten:
        check_same_meaning(source, script, rewritten)
    text = apply_edits(source.text, splices)
    check_result(source, text, splices)
    check_names(source, entry, text, splices)
    return Undone(
        text,
        sha256(source.encode(text)) == entry.original,
        source,
        tuple(source.line_of(script.tokens[place.match.first].start) for place in places),
        tuple(splices),
        tuple(dict.fromkeys(value for place in places for value in _held(script, place))),
    )


def _exactly(source: Source, entry: ScriptEntry) -> Undone:
    inverse: list[Edit] = []
    shift = 0
    for region in entry.edits:
        start = region.start + shift
        inverse.append(Edit(start, start + len(region.after), region.before))
        shift += len(region.after) - len(region.before)
    there = (source.text[edit.start : edit.end] for edit in inverse)
    if all(text == region.after for text, region in zip(there, entry.edits, strict=True)):
        with contextlib.suppress(ValueError):  # spans outside the text, or text outside the encoding
            text = apply_edits(source.text, inverse)
            if sha256(source.encode(text)) == entry.original:
                return Undone(
                    text, True, source, tuple(region.line for region in entry.edits), tuple(inverse), _as_written(entry)
                )
    message = (
        f"{FOLDER_NAME}/{RECORD_NAME} was changed by hand: what it says of this script does not fit the script; "
        "restore that file (git checkout, a backup)"
    )
    raise Refusal("unreadable", message)


def is_present(source: Source, entry: ScriptEntry) -> bool:
    """Whether every region of the patch can be found in a script that was edited since."""
    script = TokenizedScript(source.text)
    search = find_regions(script, entry)
    return search.is_complete and not all(_reads_as_before(script, place) for place in search.found)


def _reads_as_before(script: TokenizedScript, place: FoundRegion) -> bool:
    """A value that was put back by hand matches its wildcard, but is no patch."""
    before, seen = lex(place.region.before), script.tokens[place.match.first : place.match.end]
    return len(before) == len(seen) and all(same(one, other) for one, other in zip(before, seen, strict=True))


def leaves_traces(source: Source, entry: ScriptEntry) -> bool:
    """Whether the script still has a name from `energy_losses/`; where the patch imported none, the whole patch.

    Other names do not tell: an unpatched version of the script may count its ranks, too.
    """
    tokens = lex(source.text)
    if any(token.kind == ERROR for token in tokens):
        return True  # nobody can tell, and to say "not patched" would be the worse mistake
    imports = [lex(region.after) for region in entry.edits if FOLDER_NAME in region.after]
    names = {token.text for line in imports for token in line if token.text in entry.names}
    if not names:
        return is_present(source, entry)
    counts = Counter(token.text for token in tokens if token.word)
    return any(counts[name] > entry.names[name] for name in names)


def _check_readable(source: Source) -> None:
    try:
        check_compiles(source)
    except Refusal as refusal:
        message = f"was edited after apply, and now it {refusal.message.partition(';')[0]}; make it valid Python again"
        raise Refusal("patch-modified", message, line=refusal.line) from None


def _found(source: Source, script: TokenizedScript, entry: ScriptEntry) -> list[FoundRegion]:
    search = find_regions(script, entry)
    if not search.is_complete:
        raise patch_modified(source, script, entry, search)
    return [*search.found]


def _as_written(entry: ScriptEntry) -> tuple[Held, ...]:
    """The values that a patch holds as it was written."""
    found: list[Held] = []
    for region in entry.edits:
        if not region.holds:
            continue
        pattern = make_pattern(region)
        for wildcard in pattern.wildcards:
            first, last = pattern.tokens[wildcard.first], pattern.tokens[wildcard.end - 1]
            text = region.after[first.start : last.end]
            found.append(Held(wildcard.label, text, region.holds.get(wildcard.label, ""), owner=region.owner))
    return tuple(found)


def _held(script: TokenizedScript, place: FoundRegion) -> Iterator[Held]:
    """The values of a place as they are now."""
    for wildcard, (first, end) in zip(place.pattern.wildcards, place.match.values, strict=True):
        written = place.pattern.tokens[wildcard.first : wildcard.end]
        seen = script.tokens[first:end]
        alike = len(written) == len(seen) and all(same(one, other) for one, other in zip(written, seen, strict=True))
        option = place.region.holds.get(wildcard.label, "")
        yield Held(wildcard.label, text_of(script, first, end), option, not alike, place.region.owner)

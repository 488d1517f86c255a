"""Reports as a person reads them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from energy_patch.refusal import Reason
from energy_patch.report.outcome import FAILED, Outcome, OutcomeName, Report, described_files
from energy_patch.wrapping import hanging

Paint = Callable[[OutcomeName, str], str]  # a word in the colour of an outcome

WORDS: dict[OutcomeName, str] = {
    "patched": "patched",
    "already-applied": "already patched",
    "would-change": "would change (dry run, nothing written)",
    "reverted": "reverted",
    "not-applied": "not patched",
    "patch-modified": "patch modified",
    "refused": "refused",
    "not-attempted": "not attempted",
}


def plain(outcome: OutcomeName, word: str) -> str:
    """A word without colour."""
    return word


def as_text(report: Report, width: int | None = None, paint: Paint = plain) -> Iterator[str]:
    """Each script with its edits and notes, the files beside it, and what else is to be known.

    Lists are as wide as `width` columns; a refusal is one line, however long.
    """
    for item in report.outcomes:
        yield _headline(item, paint, is_status=report.command == "status")
        if item.outcome not in FAILED:
            yield from _edit_lines(item.edits, "  ", width)
        for module in item.modules:
            yield f"  {module.name}" + (":" if module.edits else "")
            yield from _edit_lines(module.edits, "    ", width)
        for note in item.notes:
            yield from hanging(note, "  - ", "    ", width)
    for text in described_files(report.files):
        yield from hanging(text, "  ", "    ", width)
    for note in report.notes:
        yield from hanging(note, "  - ", "    ", width)
    yield from report.after


def _headline(item: Outcome, paint: Paint, *, is_status: bool) -> str:
    where = f"{item.path}:{item.line}" if item.line and item.outcome in FAILED else f"{item.path}"
    word = WORDS[item.outcome]
    if item.outcome == "refused":
        word = f"{word} ({reason_word(item.reason)})"
    elif is_status and item.outcome == "already-applied":
        word = WORDS["patched"]
    between = ": " if item.outcome in FAILED else ", "
    return f"{where}: {paint(item.outcome, word)}" + (f"{between}{item.message}" if item.message else "")


def reason_word(reason: Reason | None) -> str:
    """A reason as it is printed: its name, without jargon."""
    return "patch modified" if reason == "patch-modified" else f"{reason}"


def _edit_lines(edits: Sequence[tuple[int, str]], indent: str, width: int | None) -> Iterator[str]:
    digits = max((len(str(line)) for line, _ in edits), default=0)
    for line, title in edits:
        first = f"{indent}line {line:>{digits}}  "
        yield from hanging(title, first, " " * len(first), width)

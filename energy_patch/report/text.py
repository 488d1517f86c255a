"""Reports as a person reads them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from energy_patch.locate.facts import ORIGINAL_LOSS
from energy_patch.report.outcome import FAILED, Outcome, OutcomeName, Report, described_files
from energy_patch.wrapping import hanging

Paint = Callable[[OutcomeName, str], str]  # a word in the color of an outcome

LISTED = 20  # names of files that have nothing to do with the loss

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
    """A word without color."""
    return word


def as_text(report: Report, width: int | None = None, paint: Paint = plain) -> Iterator[str]:
    """Each script with its edits and notes, the files beside it, and what else is to be known.

    Lists are as wide as `width` columns; a refusal is one line, however long.
    """
    for item in report.outcomes:
        if item.is_bystander:
            continue
        yield _headline(item, paint, is_status=report.command == "status")
        if item.outcome not in FAILED:
            yield from _edit_lines(item.edits, "  ", width)
        for module in item.modules:
            yield f"  {module.name}" + (":" if module.edits else "")
            yield from _edit_lines(module.edits, "    ", width)
        for note in item.notes:
            yield from hanging(note, "  - ", "    ", width)
    yield from _bystanders(report, width)
    for text in described_files(report.files):
        yield from hanging(text, "  ", "    ", width)
    for note in report.notes:
        yield from hanging(note, "  - ", "    ", width)
    yield from report.after


def _bystanders(report: Report, width: int | None) -> Iterator[str]:
    """The scripts of a folder that are not concerned, by name alone."""
    groups: dict[str, list[str]] = {}
    for item in report.outcomes:
        if item.is_bystander:
            head = f"{WORDS[item.outcome]}, {ORIGINAL_LOSS} is not called" if item.reason else WORDS[item.outcome]
            groups.setdefault(head, []).append(str(item.path))
    for head, names in groups.items():
        yield from hanging(f"{head}: {shortened(names)}", "", "  ", width)


def shortened(names: Sequence[str]) -> str:
    """A list of names that stays readable for a whole repository."""
    more = f", and {len(names) - LISTED} more (--json names all)" if len(names) > LISTED else ""
    return ", ".join(names[:LISTED]) + more


def _headline(item: Outcome, paint: Paint, *, is_status: bool) -> str:
    where = f"{item.path}:{item.line}" if item.line and item.outcome in FAILED else f"{item.path}"
    word = WORDS[item.outcome]
    if item.outcome == "refused":
        word = f"{word} ({item.reason})"
    elif is_status and item.outcome == "already-applied":
        word = WORDS["patched"]
    between = ": " if item.outcome in FAILED else ", "
    return f"{where}: {paint(item.outcome, word)}" + (f"{between}{item.message}" if item.message else "")


def _edit_lines(edits: Sequence[tuple[int, str]], indent: str, width: int | None) -> Iterator[str]:
    digits = max((len(str(line)) for line, _ in edits), default=0)
    for line, title in edits:
        first = f"{indent}line {line:>{digits}}  "
        yield from hanging(title, first, " " * len(first), width)

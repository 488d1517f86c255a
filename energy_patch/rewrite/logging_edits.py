"""`--log-metrics`: the loss's figures beside the energies that a script logs."""

from __future__ import annotations

from collections.abc import Iterator

from energy_patch.locate.facts import Facts
from energy_patch.locate.written import Display
from energy_patch.refusal import Refusal
from energy_patch.rewrite.edits import Edit
from energy_patch.rewrite.insertions import append_items
from energy_patch.syntax.source import Source

LATEST_METRICS = "latest_metrics"
FIGURES = {"energy_top1": "top1", "energy_loss_over_log_n": "loss_over_log_n", "energy_margin": "margin"}


def logging_edits(facts: Facts, function: str) -> Iterator[tuple[Edit, str]]:
    """Edits with titles that log the figures; `function` is what `latest_metrics` is called in the script.

    Raises:
        Refusal: `unsupported`, where the energies are not logged in exactly one dictionary, or in a way that cannot be
            repeated for other figures.
    """
    dictionaries = facts.logged.dictionaries
    if len(dictionaries) != 1:
        seen = f"{len(dictionaries)} dictionaries that do" if dictionaries else "no dictionary that does"
        raise _refusal(
            "adds to the one dictionary below the call that holds the energies which the loss returns, and the "
            f"function around the call has {seen}",
            facts.calls[0].line,
        )
    (dictionary,) = dictionaries
    items = [
        f'"{key}": {_value(dictionary).replace("{figure}", f"""{function}()["{figure}"]""")}'
        for key, figure in FIGURES.items()
    ]
    yield from _appended(facts.source, dictionary, items, "log the figures of the loss")
    for display in facts.logged.averages:
        yield from _appended(facts.source, display, [*_entries(display)], "read the figures, too")


def _value(display: Display) -> str:
    if display.value is None:
        raise _refusal("cannot repeat for other figures how this dictionary's energies are written", display.line)
    return display.value


def _entries(display: Display) -> Iterator[str]:
    """An entry for each figure: its name alone in a list of names, else with a value as the others have."""
    for key in FIGURES:
        value = _value(display).replace("{key}", f'"{key}"')
        yield value if display.value == "{key}" else f'"{key}": {value}'


def _refusal(what: str, line: int) -> Refusal:
    message = (
        f"--log-metrics {what}; leave --log-metrics out, and paste where you log: "
        f"`from energy_losses.metrics import {LATEST_METRICS}` and "
        f'`metrics["energy_top1"] = {LATEST_METRICS}()["top1"].item()`'
    )
    return Refusal("unsupported", message, line=line)


def _appended(source: Source, display: Display, items: list[str], title: str) -> Iterator[tuple[Edit, str]]:
    for edit in append_items(source, display.inside, items):
        yield edit, title

"""`--log-metrics`: the loss's figures beside the energies that a script logs."""

from __future__ import annotations

from collections.abc import Iterator

from energy_patch.locate.facts import Display, Facts
from energy_patch.refusal import Refusal
from energy_patch.rewrite.edits import Edit
from energy_patch.rewrite.insertions import append_items
from energy_patch.syntax.source import Source

LATEST_METRICS = "latest_metrics"
FIGURES = {"energy_top1": "top1", "energy_loss_over_log_n": "loss_over_log_n", "energy_margin": "margin"}


def logging_edits(facts: Facts, function: str) -> Iterator[tuple[Edit, str]]:
    """Edits with titles that log the figures; `function` is what `latest_metrics` is called in the script.

    Raises:
        Refusal: `unsupported`, where the energies are not logged in exactly one dictionary.
    """
    dictionaries = facts.logged.dictionaries
    if len(dictionaries) != 1:
        seen = f"{len(dictionaries)} dictionaries that do" if dictionaries else "no dictionary that does"
        message = (
            "--log-metrics adds to the one dictionary that holds the energies which the loss returns, and the function "
            f"around the call has {seen}; leave --log-metrics out, and paste where you log: "
            f"`from energy_losses.metrics import {LATEST_METRICS}` and "
            f'`metrics["energy_top1"] = {LATEST_METRICS}()["top1"].item()`'
        )
        raise Refusal("unsupported", message, line=facts.calls[0].line)
    (dictionary,) = dictionaries
    assert dictionary.value is not None
    items = [
        f'"{key}": ' + dictionary.value.replace("{figure}", f'{function}()["{figure}"]')
        for key, figure in FIGURES.items()
    ]
    yield from _appended(facts.source, dictionary, items, "log the figures of the loss")
    for display in facts.logged.averages:
        entries = [f'"{key}"' if display.value is None else f'"{key}": {display.value}' for key in FIGURES]
        yield from _appended(facts.source, display, entries, "read the figures, too")


def _appended(source: Source, display: Display, items: list[str], title: str) -> Iterator[tuple[Edit, str]]:
    for edit in append_items(source, display.inside, items):
        yield edit, title

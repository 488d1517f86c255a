"""diagnose: look at each script, and print what was found."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from energy_patch.commands.apply import refusal_of
from energy_patch.commands.modules import modules_of_others
from energy_patch.commands.scripts import named_scripts
from energy_patch.diagnose.engine import Diagnosis, diagnose
from energy_patch.diagnose.numbers import USUAL_BATCH
from energy_patch.diagnose.render import as_text, as_tree
from energy_patch.locate.facts import ORIGINAL_LOSS
from energy_patch.report.console import ColorMode, show_lines, width_of
from energy_patch.report.contract import contract
from energy_patch.report.text import shortened
from energy_patch.wrapping import hanging


@dataclass(frozen=True)
class Diagnoses:
    """What was found in each script.

    Of many, `bystanders` have nothing to do with the loss, and `modules` are looked at with the scripts that use them.
    """

    found: tuple[Diagnosis, ...]
    bystanders: frozenset[Path]
    modules: frozenset[Path]


def diagnose_all(paths: Sequence[Path], gpus: int, batch_size: int | None) -> Diagnoses:
    """Each script by itself; what is wrong with one is part of its answer."""
    named = named_scripts(paths, ORIGINAL_LOSS)
    others = modules_of_others(named)
    modules = {path: others[path.resolve()] for path in named.paths if path.resolve() in others}
    found = tuple(
        Diagnosis(path, gpus, batch_size or USUAL_BATCH, notes=(modules[path],))
        if path in modules
        else diagnose(path, gpus, batch_size, refusal_of)
        for path in named.paths
    )
    silent = [item.path for item in found if not (item.calls or item.findings or named.concerns(item.path))]
    return Diagnoses(found, frozenset(silent) if named.are_many else frozenset(), frozenset(modules))


def show(all_found: Diagnoses, mode: ColorMode, *, as_json: bool) -> None:
    """Print the answer on stdout."""
    if as_json:
        is_refused = all(item.reason is not None for item in all_found.found)
        trees = [as_tree(item) for item in all_found.found]
        click.echo(contract("diagnose", "refused" if is_refused else "diagnosed", trees))
    else:
        show_lines(_lines(all_found), mode)


def _lines(all_found: Diagnoses) -> Iterator[str]:
    width = width_of(sys.stdout)
    shown = [item for item in all_found.found if item.path not in all_found.bystanders | all_found.modules]
    for number, item in enumerate(shown):
        if number:
            yield ""
        yield from as_text(item, width)
    for what, paths in (
        ("Looked at with the scripts that use them", all_found.modules),
        (f"{ORIGINAL_LOSS} is not called", all_found.bystanders),
    ):
        names = [str(item.path) for item in all_found.found if item.path in paths]
        if names and shown:
            yield ""
        if names:
            yield from hanging(f"{what}: {shortened(names)}", "", "  ", width)

"""diagnose: look at each script, and print what was found."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import click

from energy_patch.commands.apply import refusal_of
from energy_patch.diagnose.engine import Diagnosis, diagnose
from energy_patch.diagnose.render import as_text, as_tree
from energy_patch.report.console import ColorMode, show_lines, width_of
from energy_patch.report.contract import contract


def diagnose_all(paths: Sequence[Path], gpus: int, batch_size: int | None) -> tuple[Diagnosis, ...]:
    """Each script by itself; what is wrong with one is part of its answer."""
    return tuple(diagnose(path, gpus, batch_size, refusal_of) for path in dict.fromkeys(paths))


def show(found: Sequence[Diagnosis], mode: ColorMode, *, as_json: bool) -> None:
    """Print the answer on stdout."""
    if as_json:
        is_refused = all(item.reason is not None for item in found)
        click.echo(contract("diagnose", "refused" if is_refused else "diagnosed", [as_tree(item) for item in found]))
    else:
        show_lines(_lines(found), mode)


def _lines(found: Sequence[Diagnosis]) -> Iterator[str]:
    width = width_of(sys.stdout)
    for number, item in enumerate(found):
        if number:
            yield ""
        yield from as_text(item, width)

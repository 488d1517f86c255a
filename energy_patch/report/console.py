"""Where a report goes: what was asked for to stdout, what happened on the way to stderr, with color or without."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterable
from typing import Literal, TextIO

import click

from energy_patch.files.diff import color
from energy_patch.report.contract import report_contract
from energy_patch.report.outcome import CHANGING, FAILED, OutcomeName, Report
from energy_patch.report.text import as_text, plain

ColorMode = Literal["auto", "always", "never"]
_COLORS = {**dict.fromkeys(FAILED, "red"), **dict.fromkeys(CHANGING, "green")}


def has_color(stream: TextIO, mode: ColorMode) -> bool:
    """Whether a stream is written in color: as asked for; else by NO_COLOR, FORCE_COLOR, or as a terminal.

    Each of the two variables counts where it is set and not empty.
    """
    if mode != "auto":
        return mode == "always"
    if os.environ.get("NO_COLOR"):
        return False
    return bool(os.environ.get("FORCE_COLOR")) or (stream.isatty() and os.environ.get("TERM") != "dumb")


def width_of(stream: TextIO) -> int | None:
    """The columns of a terminal, or those that COLUMNS asks for; None for a file or a pipe."""
    if stream.isatty() or os.environ.get("COLUMNS", "").isdecimal():
        return shutil.get_terminal_size().columns
    return None


def show(report: Report, mode: ColorMode, *, as_json: bool, diff: bytes = b"") -> None:
    """Print a report: the JSON object or the diff on stdout, the summary on stderr; of `status`, all on stdout."""
    is_answer = report.command == "status"
    if as_json:
        click.echo(report_contract(report))
    elif diff:
        is_painted = has_color(sys.stdout, mode)
        click.echo(color(diff) if is_painted else diff, nl=False, color=is_painted)
    if is_answer and as_json:
        return
    stream = sys.stdout if is_answer else sys.stderr
    is_painted = has_color(stream, mode)
    lines = as_text(report, width_of(stream), _painted if is_painted else plain)
    click.echo("\n".join(lines), file=stream, color=is_painted)


def show_lines(lines: Iterable[str], mode: ColorMode) -> None:
    """Print an answer on stdout, its headings, which are not indented, in bold."""
    is_painted = has_color(sys.stdout, mode)
    for line in lines:
        is_heading = bool(line) and not line.startswith(" ")
        click.echo(click.style(line, bold=True) if is_painted and is_heading else line, color=is_painted)


def _painted(outcome: OutcomeName, word: str) -> str:
    """An outcome's word in a color that says whether it went well."""
    return click.style(word, fg=_COLORS.get(outcome))

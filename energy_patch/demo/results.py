"""The numbers of the demo: two files, a table and a figure."""

from __future__ import annotations

import csv
from pathlib import Path

from energy_patch.demo.runs import CANDIDATES, Trained

FIGURE, CURVES, TABLE = "held_out.png", "held_out.csv", "table.csv"


def write_numbers(results: list[Trained], out: Path) -> None:
    """Accuracy by step, and a line for each run."""
    with (out / CURVES).open("w", newline="", encoding="utf-8") as file:
        curves = csv.writer(file)
        curves.writerow(["run", "step", "top1", "seconds"])
        for result in results:
            for point in zip(result.steps, result.top1, result.seconds, strict=True):
                curves.writerow([result.run.name, *point])
    with (out / TABLE).open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["run", "ranks", "batch_size", "negatives", "top1_first", "top1_last", "step_seconds"])
        for result in results:
            run, shown = result.run, [result.top1[0], result.top1[-1], result.step_time]
            numbers = [f"{number:.4f}" for number in shown]
            table.writerow([run.name, run.ranks, run.batch_size, run.negatives, *numbers])


def table(results: list[Trained]) -> list[str]:
    """Held-out accuracy, step time and negatives of each run, as lines of text."""
    header = ("held out", f"top-1 of {CANDIDATES}", "negatives", "step time")
    rows = [
        (
            result.run.label,
            f"{result.top1[0]:.3f} -> {result.top1[-1]:.3f}",
            str(result.run.negatives),
            f"{1000 * result.step_time:.0f} ms",
        )
        for result in results
    ]
    widths = [max(len(row[column]) for row in [header, *rows]) for column in range(len(header))]
    lines = [
        "  ".join([row[0].ljust(widths[0]), *(row[i].rjust(widths[i]) for i in (1, 2, 3))]) for row in [header, *rows]
    ]
    chance = f"{'chance'.ljust(widths[0])}  {f'{1 / CANDIDATES:.3f}'.rjust(widths[1])}"
    return [lines[0], "-" * len(lines[0]), *lines[1:], chance]


def plot(results: list[Trained], path: Path) -> None:
    """The figure: accuracy by step."""
    from energy_patch.demo.plot import Curve, plot_curves

    curves = [
        Curve(result.run.label, result.run.color, result.run.style, result.steps, result.top1) for result in results
    ]
    plot_curves(curves, CANDIDATES, path)

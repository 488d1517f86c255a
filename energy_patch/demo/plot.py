"""Held-out accuracy by step, as a figure for a paper: one axis, direct labels, colors that survive a printer."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

WIDTH, HEIGHT, DPI = 6.4, 3.4, 200  # inches, dots per inch
LABEL_GAP = 0.06  # of the axis: labels closer than this would touch


class Curve(NamedTuple):
    label: str
    color: str
    style: str
    steps: Sequence[int]
    top1: Sequence[float]


def plot_curves(curves: Sequence[Curve], candidates: int, path: Path) -> None:
    """Write the figure to `path`; its suffix chooses the format."""
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with rc_context({"font.size": 9, "axes.linewidth": 0.8, "svg.fonttype": "none"}):
        figure = Figure(figsize=(WIDTH, HEIGHT), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.add_subplot()
        last = max(curve.steps[-1] for curve in curves)
        chance = 1 / candidates
        top = max(0.1, *(value for curve in curves for value in curve.top1)) * 1.1

        axes.axhline(chance, color="0.45", linewidth=0.8, linestyle=(0, (2, 2)), zorder=1)
        for curve in curves:
            axes.plot(
                curve.steps,
                curve.top1,
                color=curve.color,
                linestyle=curve.style,
                linewidth=1.8,
                marker="o",
                markersize=3,
                clip_on=False,
                zorder=2,
            )
        ends = [curve.top1[-1] for curve in curves] + [chance]
        labels = [curve.label for curve in curves] + [f"chance, 1/{candidates}"]
        colors = [curve.color for curve in curves] + ["0.45"]
        for label, color, height in zip(labels, colors, spread(ends, LABEL_GAP * top), strict=True):
            axes.text(last * 1.02, height, label, color=color, va="center")
        axes.set_xlim(0, last)
        axes.set_ylim(0, top)
        axes.set_xlabel("training step")
        axes.set_ylabel(f"held-out top-1 of {candidates}")
        axes.spines[["top", "right"]].set_visible(False)
        figure.savefig(path, dpi=DPI)


def spread(heights: Sequence[float], gap: float) -> list[float]:
    """The heights, moved apart as little as it takes to keep `gap` between any two; their order stays."""
    order = sorted(range(len(heights)), key=lambda i: heights[i])
    blocks: list[tuple[float, list[int]]] = []  # centre and members: labels that push against each other
    for i in order:
        centre, members = heights[i], [i]
        while blocks and centre - blocks[-1][0] < gap * (len(members) + len(blocks[-1][1])) / 2:
            _, neighbours = blocks.pop()
            members = neighbours + members
            centre = sum(heights[m] for m in members) / len(members)
        blocks.append((centre, members))
    placed = list(heights)
    for centre, members in blocks:
        for place, i in enumerate(members):
            placed[i] = centre + gap * (place - (len(members) - 1) / 2)
    return placed

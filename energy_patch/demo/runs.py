"""The four trainings of the demo, and what each left."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import NamedTuple

from energy_patch.strategies.base import TAU

CANDIDATES = 24
ORIGINAL_TAU = "0.5"  # at the original's temperature only the negatives and the shared model differ


class Run(NamedTuple):
    """One training: how many ranks with which batch, and how its curve is drawn."""

    name: str
    label: str
    ranks: int
    batch_size: int
    patched: bool
    color: str
    style: str

    @property
    def negatives(self) -> int:
        """Negatives that each sample is compared with in a step."""
        return self.batch_size * (self.ranks if self.patched else 1) - 1


BEFORE = Run("as-it-is", "8 ranks x 3, as it is", 8, 3, False, "#D55E00", "-")
ONE_RANK = Run("one-rank", "1 rank x 24, as it is", 1, 24, False, "#4D4D4D", "--")
AFTER = Run("patched", f"8 ranks x 3, patched, tau {ORIGINAL_TAU} as before", 8, 3, True, "#0072B2", "-")
WITH_DEFAULT = Run("patched-default", f"8 ranks x 3, patched, tau {TAU.default}", 8, 3, True, "#009E73", "-")


class Trained(NamedTuple):
    """The held-out accuracy of a run by step."""

    run: Run
    steps: list[int]
    top1: list[float]
    seconds: list[float]  # spent in training steps so far, on rank 0

    @property
    def step_time(self) -> float:
        """Seconds per step; the first one, which warms up, counts only where it is the only one."""
        if len(self.steps) == 1:
            return self.seconds[0] / self.steps[0]
        return (self.seconds[-1] - self.seconds[0]) / (self.steps[-1] - self.steps[0])


def read_run(run: Run, path: Path) -> Trained:
    """What a run wrote while it trained."""
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return Trained(
        run,
        [int(row["step"]) for row in rows],
        [float(row["top1"]) for row in rows],
        [float(row["seconds"]) for row in rows],
    )

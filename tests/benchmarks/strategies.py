"""Held-out accuracy of every strategy on the bundled codebase: the table in the README.

    python tests/benchmarks/strategies.py [--steps 400] [--seeds 3] [--only NAME ...] [--csv FILE]

Eight gloo ranks with three samples each, and one rank with twenty-four for comparison. The temperature is 0.5 in
every row, the sample's own, unless the row says otherwise. A row that FILE already holds is not trained again.
"""

from __future__ import annotations

import argparse
import csv
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

SAMPLE = Path(__file__).parents[2] / "energy_patch" / "demo" / "sample"
SCRIPT = "finetune_Energy.py"
LIMIT = 1200  # seconds for one training
COLUMNS = ["row", "steps", "seed", "top1", "step_seconds"]


class Row(NamedTuple):
    name: str
    options: str | None = None  # of `energy-patch apply`; None: the script as it is
    ranks: int = 8
    batch_size: int = 3
    negatives: str = "2"


SAME_TAU = "--tau 0.5"
ROWS = [
    Row("8 x 3, as it is"),
    Row("global", f"--strategy global {SAME_TAU}", negatives="23"),
    Row("global, tau 0.3", "--strategy global --tau 0.3", negatives="23"),
    Row("layer", f"--strategy layer {SAME_TAU}", negatives="8"),
    Row("adaptive", f"--strategy adaptive {SAME_TAU}", negatives="8"),
    Row("queue", f"--strategy queue {SAME_TAU}", negatives="23 + 256"),
    Row("1 x 24, as it is", ranks=1, batch_size=24, negatives="23"),
]


def train(row: Row, steps: int, seed: int) -> tuple[float, float]:
    """Held-out top-1 after the last step, and seconds per step on rank 0."""
    with tempfile.TemporaryDirectory(prefix="strategies-") as folder:
        code = Path(folder) / "code"
        shutil.copytree(SAMPLE, code, ignore=shutil.ignore_patterns("__pycache__", "runs"))
        if row.options is not None:
            command = [sys.executable, "-m", "energy_patch", "apply", *row.options.split(), SCRIPT]
            subprocess.run(command, cwd=code, check=True, capture_output=True, timeout=60)
        flags = {"batch_size": row.batch_size, "max_steps": steps, "seed": 1000 * seed, "held_out_freq": steps}
        arguments = [f"--{name}={value}" for name, value in flags.items()]
        command = [sys.executable, "-m", "energy_patch.demo.launch", "--ranks", str(row.ranks), SCRIPT]
        with (
            (Path(folder) / "log.txt").open("w+") as log,
            subprocess.Popen(
                [*command, *arguments, "--run_name=run"],
                cwd=code,
                env={**os.environ, "OMP_NUM_THREADS": "1"},
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            ) as launcher,
        ):
            try:
                status = launcher.wait(LIMIT)
            finally:
                if launcher.poll() is None:
                    os.killpg(launcher.pid, signal.SIGKILL)
            if status:
                log.seek(0)
                sys.exit(f"{row.name}, seed {seed}:\n{log.read()}")
        with (code / "runs" / "run" / "held_out.csv").open(newline="") as file:
            first, *_, last = list(csv.DictReader(file))
    seconds = float(last["seconds"]) - float(first["seconds"])
    return float(last["top1"]), seconds / (int(last["step"]) - int(first["step"]))


def show(results: dict[tuple[str, int], tuple[float, float]], rows: list[Row]) -> None:
    print("\n| run | negatives per sample | held-out top-1 of 24, mean (lowest to highest) | step time |")
    print("| --- | --- | --- | --- |")
    for row in rows:
        top1 = [value for (name, _), (value, _) in results.items() if name == row.name]
        times = [value for (name, _), (_, value) in results.items() if name == row.name]
        if top1:
            accuracy = f"{statistics.mean(top1):.3f} ({min(top1):.3f} to {max(top1):.3f})"
            print(f"| {row.name} | {row.negatives} | {accuracy} | {1000 * statistics.median(times):.0f} ms |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", nargs="+", choices=[row.name for row in ROWS], default=None)
    parser.add_argument("--csv", type=Path, default=None, help="keep results here, and go on from them")
    options = parser.parse_args()
    rows = [row for row in ROWS if options.only is None or row.name in options.only]

    results: dict[tuple[str, int], tuple[float, float]] = {}
    if options.csv and options.csv.exists():
        with options.csv.open(newline="") as file:
            for line in csv.DictReader(file):
                if int(line["steps"]) == options.steps:
                    results[line["row"], int(line["seed"])] = float(line["top1"]), float(line["step_seconds"])
    for seed in range(options.seeds):
        for row in rows:
            if (row.name, seed) in results:
                continue
            top1, seconds = results[row.name, seed] = train(row, options.steps, seed)
            print(f"{row.name}, seed {seed}: {top1:.3f}, {1000 * seconds:.0f} ms per step", flush=True)
            if options.csv:
                new = not options.csv.exists()
                with options.csv.open("a", newline="") as file:
                    writer = csv.writer(file)
                    writer.writerows([COLUMNS] if new else [])
                    writer.writerow([row.name, options.steps, seed, top1, seconds])
    show(results, rows)


if __name__ == "__main__":
    main()

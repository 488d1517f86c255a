"""What every strategy is worth on the bundled codebase, in scenes it has not seen: the table in the README.

    python tests/benchmarks/strategies.py [--steps 400] [--seeds 3] [--only NAME ...] [--csv FILE]

Eight gloo ranks with three samples each, or as many ranks of larger batches as make twenty-four, at the original's
temperature and at today's default. The columns are those of ``held_out.py``. A row that FILE already holds is not
trained again.
"""

from __future__ import annotations

import argparse
import csv
import json
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
HELD_OUT = Path(__file__).with_name("held_out.py")
SCRIPT = "finetune_Energy.py"
CALL = "energy_inbatch_swap_infonce(energy_model,context_hidden,ground_truth_actions, energy_mask"
LIMIT = 3600  # seconds for one training
FIGURES = ["top1", "vs_policy", "distance"]
COLUMNS = ["row", "tau", "steps", "seed", *FIGURES]

Results = dict[tuple[str, float, int], list[float]]


class Row(NamedTuple):
    name: str
    negatives: str
    strategy: str = ""  # none: the script as it is
    ranks: int = 8
    batch_size: int = 3


TAUS = [0.5, 0.07]
ROWS = [
    Row("8 x 3, as it is", "2"),
    Row("1 x 24, as it is", "23", ranks=1, batch_size=24),
    Row("global", "23", "global"),
    Row("hybrid", "23 + 8", "hybrid"),
    Row("adaptive", "23 + 8", "adaptive"),
    Row("queue", "23 + 256", "queue"),
    Row("layer", "2 + 8", "layer"),
    Row("local-batch, 4 x 6", "5", "local-batch", ranks=4, batch_size=6),
]


def train(row: Row, tau: float, steps: int, seed: int) -> list[float]:
    """The figures after the last step."""
    with tempfile.TemporaryDirectory(prefix="strategies-") as folder:
        code = Path(folder) / "code"
        shutil.copytree(SAMPLE, code, ignore=shutil.ignore_patterns("__pycache__", "runs"))
        prepare(code / SCRIPT, row.strategy, tau)
        flags = {"batch_size": row.batch_size, "max_steps": steps, "seed": 1000 * seed, "grad_accumulation_steps": 1}
        flags |= {"held_out_freq": 10 * steps, "save_freq": steps}
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
                sys.exit(f"{row.name}, tau {tau}, seed {seed}:\n{log.read()}")
        answer = subprocess.check_output([sys.executable, HELD_OUT, f"runs/run-{steps}"], cwd=code, timeout=LIMIT)
        figures = json.loads(answer)
        return [figures[name] for name in FIGURES]


def prepare(script: Path, strategy: str, tau: float) -> None:
    """Patch the script, with the temperature, or write the temperature into the original call."""
    if strategy:
        temperature = [] if strategy == "local-batch" else ["--tau", str(tau)]
        command = [sys.executable, "-m", "energy_patch", "apply", "--strategy", strategy, *temperature, script.name]
        subprocess.run(command, cwd=script.parent, check=True, capture_output=True, timeout=60)
    if strategy in ("", "local-batch"):
        text = script.read_text("utf-8")
        before, after = text.split(f" = {CALL})")
        script.write_text(f"{before} = {CALL}, tau={tau}){after}", "utf-8")


def show(results: Results, rows: list[Row]) -> None:
    print("\n| run | negatives | tau | top-1 of 24 | vs policy | distance after / before |")
    print("| --- | --- | --- | --- | --- | --- |")
    for row in rows:
        for tau in TAUS:
            figures = [values for (name, at, _), values in results.items() if (name, at) == (row.name, tau)]
            if figures:
                cells = [f"{statistics.mean(v):.3f} ({min(v):.3f} to {max(v):.3f})" for v in zip(*figures, strict=True)]
                print(f"| {row.name} | {row.negatives} | {tau} | {' | '.join(cells)} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", nargs="+", choices=[row.name for row in ROWS], default=None)
    parser.add_argument("--tau", nargs="+", type=float, default=TAUS)
    parser.add_argument("--csv", type=Path, default=None, help="keep results here, and go on from them")
    options = parser.parse_args()
    rows = [row for row in ROWS if options.only is None or row.name in options.only]

    results: Results = {}
    if options.csv and options.csv.exists():
        with options.csv.open(newline="") as file:
            for line in csv.DictReader(file):
                if int(line["steps"]) == options.steps:
                    key = line["row"], float(line["tau"]), int(line["seed"])
                    results[key] = [float(line[name]) for name in FIGURES]
    for seed in range(options.seeds):
        for tau in options.tau:
            for row in rows:
                if (row.name, tau, seed) in results:
                    continue
                figures = results[row.name, tau, seed] = train(row, tau, options.steps, seed)
                print(f"{row.name}, tau {tau}, seed {seed}:", *(f"{value:.3f}" for value in figures), flush=True)
                if options.csv:
                    new = not options.csv.exists()
                    with options.csv.open("a", newline="") as file:
                        writer = csv.writer(file)
                        writer.writerows([COLUMNS] if new else [])
                        writer.writerow([row.name, tau, options.steps, seed, *figures])
    show(results, rows)


if __name__ == "__main__":
    main()

"""What every strategy is worth on the bundled codebase, in scenes it has not seen: the table in the README.

    python tests/benchmarks/strategies.py [--steps 400] [--seeds 3] [--tau 0.5 0.07] [--only NAME ...]
                                          [--num-negatives 8 ...] [--negative-weight 0.25 ...] [--csv FILE]

Eight gloo ranks with three samples each, or as many ranks of larger batches as make twenty-four, at the original's
temperature and at today's default. Strategies with made negatives are tried with each number and weight of them.
``symmetric`` is no strategy: it is ``symmetric.py`` in the place of the global loss. The columns are those of
``held_out.py``. What FILE already holds is not trained again, and all that it holds of as many steps is in the table.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

SAMPLE = Path(__file__).parents[2] / "energy_patch" / "demo" / "sample"
HELD_OUT = Path(__file__).with_name("held_out.py")
SYMMETRIC = Path(__file__).with_name("symmetric.py")
SCRIPT = "finetune_Energy.py"
CALL = "energy_inbatch_swap_infonce(energy_model,context_hidden,ground_truth_actions, energy_mask"
LIMIT = 3600  # seconds for one training
FIGURES = ["top1", "vs_policy", "distance"]
COLUMNS = ["row", "tau", "num_negatives", "negative_weight", "steps", "seed", *FIGURES]


class Row(NamedTuple):
    name: str
    negatives: str  # besides made ones
    strategy: str = ""  # none: the script as it is
    ranks: int = 8
    batch_size: int = 3
    makes_negatives: bool = False


TAUS = [0.5, 0.07]
ROWS = [
    Row("8 x 3, as it is", "2"),
    Row("1 x 24, as it is", "23", ranks=1, batch_size=24),
    Row("global", "23", "global"),
    Row("symmetric", "23, and 23 contexts", "symmetric"),
    Row("hybrid", "23", "hybrid", makes_negatives=True),
    Row("adaptive", "23", "adaptive", makes_negatives=True),
    Row("queue", "23 + 256", "queue"),
    Row("layer", "2", "layer", makes_negatives=True),
    Row("local-batch, 4 x 6", "5", "local-batch", ranks=4, batch_size=6),
]


@dataclass(frozen=True)
class Setting:
    """What is trained, once for each seed."""

    row: str
    tau: float
    num_negatives: int = 0  # made ones; 0 where a row makes none
    negative_weight: float = 0.0


Results = dict[tuple[Setting, int], list[float]]


def settings(rows: list[Row], options: argparse.Namespace) -> Iterator[tuple[Row, Setting]]:
    for tau in options.tau:
        for row in rows:
            for number in options.num_negatives if row.makes_negatives else [0]:
                for weight in options.negative_weight if row.makes_negatives else [0.0]:
                    yield row, Setting(row.name, tau, number, weight)


def train(row: Row, setting: Setting, steps: int, seed: int) -> list[float]:
    """The figures after the last step."""
    with tempfile.TemporaryDirectory(prefix="strategies-") as folder:
        code = Path(folder) / "code"
        shutil.copytree(SAMPLE, code, ignore=shutil.ignore_patterns("__pycache__", "runs"))
        prepare(code / SCRIPT, row.strategy, setting)
        flags = {"batch_size": row.batch_size, "max_steps": steps, "seed": 1000 * seed, "grad_accumulation_steps": 1}
        flags |= {"held_out_freq": 10 * steps, "save_freq": steps}
        arguments = [f"--{name}={value}" for name, value in flags.items()]
        launch(code, Path(folder) / "log.txt", row.ranks, [*arguments, "--run_name=run"])
        answer = subprocess.check_output([sys.executable, HELD_OUT, f"runs/run-{steps}"], cwd=code, timeout=LIMIT)
    figures = json.loads(answer)
    return [figures[name] for name in FIGURES]


def launch(code: Path, log_file: Path, ranks: int, arguments: list[str]) -> None:
    command = [sys.executable, "-m", "energy_patch.demo.launch", "--ranks", str(ranks), SCRIPT, *arguments]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with (
        log_file.open("w+") as log,
        subprocess.Popen(
            command, cwd=code, env=environment, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        ) as launcher,
    ):
        try:
            status = launcher.wait(LIMIT)
        finally:
            if launcher.poll() is None:
                os.killpg(launcher.pid, signal.SIGKILL)
        if status:
            log.seek(0)
            sys.exit(f"{' '.join(command)}:\n{log.read()}")


def prepare(script: Path, strategy: str, setting: Setting) -> None:
    """Patch the script, with the settings, or write the temperature into the original call."""
    if strategy:
        options = [] if strategy == "local-batch" else ["--tau", str(setting.tau)]
        options += ["--num-negatives", str(setting.num_negatives)] if setting.num_negatives else []
        applied = "global" if strategy == "symmetric" else strategy
        command = [sys.executable, "-m", "energy_patch", "apply", "--strategy", applied, *options, script.name]
        subprocess.run(command, cwd=script.parent, check=True, capture_output=True, timeout=60)
    if strategy in ("", "local-batch"):
        before, after = script.read_text("utf-8").split(f" = {CALL})")
        script.write_text(f"{before} = {CALL}, tau={setting.tau}){after}", "utf-8")
    modules = script.parent / "energy_losses"
    if strategy == "symmetric":
        shutil.copy(SYMMETRIC, modules / "global_infonce.py")
    if setting.num_negatives:
        weigh(modules, setting.negative_weight)


def weigh(modules: Path, weight: float) -> None:
    """No option of the command line: the losses' default is written over."""
    count = 0
    for module in modules.glob("*.py"):
        text, found = re.subn(r"(negative_weight: float = )[\d.]+", rf"\g<1>{weight}", module.read_text("utf-8"))
        module.write_text(text, "utf-8")
        count += found
    assert count


def show(results: Results) -> None:
    """Every setting that there are results of."""
    print("\n| run | negatives | tau | top-1 of 24 | vs policy | distance after / before |")
    print("| --- | --- | --- | --- | --- | --- |")
    seen = list(dict.fromkeys(setting for setting, _ in results))
    for row in ROWS:
        of_row = [setting for setting in seen if setting.row == row.name]
        for setting in sorted(of_row, key=lambda s: (-s.tau, s.num_negatives, s.negative_weight)):
            figures = [values for (other, _), values in results.items() if other == setting]
            cells = [f"{statistics.mean(v):.3f} ({min(v):.3f} to {max(v):.3f})" for v in zip(*figures, strict=True)]
            made = f" + {setting.num_negatives} x {setting.negative_weight:g}" if row.makes_negatives else ""
            print(f"| {row.name} | {row.negatives}{made} | {setting.tau} | {' | '.join(cells)} |")


def load(file: Path | None, steps: int) -> Results:
    results: Results = {}
    if file and file.exists():
        with file.open(newline="") as lines:
            for line in csv.DictReader(lines):
                if int(line["steps"]) == steps:
                    made = int(line["num_negatives"]), float(line["negative_weight"])
                    key = Setting(line["row"], float(line["tau"]), *made), int(line["seed"])
                    results[key] = [float(line[name]) for name in FIGURES]
    return results


def keep(file: Path, setting: Setting, steps: int, seed: int, figures: list[float]) -> None:
    is_new = not file.exists()
    with file.open("a", newline="") as lines:
        writer = csv.writer(lines)
        writer.writerows([COLUMNS] if is_new else [])
        made = setting.num_negatives, setting.negative_weight
        writer.writerow([setting.row, setting.tau, *made, steps, seed, *figures])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--seeds", type=int, default=3, help="how many")
    parser.add_argument("--only", nargs="+", choices=[row.name for row in ROWS], default=None)
    parser.add_argument("--tau", nargs="+", type=float, default=TAUS)
    parser.add_argument("--num-negatives", nargs="+", type=int, default=[8], help="made ones of each row")
    parser.add_argument("--negative-weight", nargs="+", type=float, default=[0.25], help="of each made one")
    parser.add_argument("--csv", type=Path, default=None, help="keep results here, and go on from them")
    options = parser.parse_args()
    rows = [row for row in ROWS if options.only is None or row.name in options.only]

    results = load(options.csv, options.steps)
    for seed in range(options.seeds):
        for row, setting in settings(rows, options):
            if (setting, seed) not in results:
                figures = results[setting, seed] = train(row, setting, options.steps, seed)
                print(f"{setting}, seed {seed}:", *(f"{value:.3f}" for value in figures), flush=True)
                if options.csv:
                    keep(options.csv, setting, options.steps, seed, figures)
    show(results)


if __name__ == "__main__":
    main()

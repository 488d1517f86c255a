"""How long the command line takes, as ratios of one run on one machine.

    python tests/benchmarks/start_up.py [--runs 9]

Processor time of whole processes, the least of several runs, since wall time also measures what else the machine does.
`--help` is compared with importing click, a dry run on a script of 1,400 lines with importing LibCST.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

SAMPLE = Path(__file__).parents[2] / "energy_patch" / "demo" / "sample" / "finetune_Energy.py"
LINES = 1400
HELPER = '''

def helper_{0}(values, scale=1.0, *, offset: float = 0.0):
    """Scale some values and keep the positive ones."""
    kept = []
    for index, value in enumerate(values):
        if value * scale + offset > 0 and (index % 2 == 0 or offset):
            kept.append((index, value * scale + offset))
    return dict(kept) if kept else {{"none": [scale, offset]}}
'''


def long_script() -> str:
    """The sample's training script with helpers between its imports and its first definition."""
    text = SAMPLE.read_text("utf-8")
    count = (LINES - text.count("\n")) // HELPER.count("\n")
    head, rest = text.split("\n\n\n", 1)
    return head + "".join(HELPER.format(number) for number in range(count)) + "\n\n" + rest


def processor_seconds(command: list[str], folder: Path) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True, timeout=120)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--runs", type=int, default=9)
    runs = parser.parse_args().runs
    tool = [sys.executable, "-m", "energy_patch"]
    commands = {
        "import click": [sys.executable, "-c", "import click"],
        "--help": [*tool, "--help"],
        "import libcst": [sys.executable, "-c", "import libcst"],
        "apply --dry-run": [*tool, "apply", "--dry-run", "train.py"],
        "status": [*tool, "status", "train.py"],
        "revert": [*tool, "revert", "--dry-run", "train.py"],
    }
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "train.py").write_text(long_script(), "utf-8")
        # Turn by turn, so that a busy spell of the machine meets all of them.
        seconds = {title: [] for title in commands}
        for _ in range(runs):
            for title, command in commands.items():
                seconds[title].append(processor_seconds(command, folder))
    best = {title: min(values) for title, values in seconds.items()}
    print(f"{LINES} lines, least of {runs} runs, processor seconds")
    for title, value in best.items():
        print(f"  {title:16} {value:6.3f}")
    for title, reference, limit in (
        ("--help", "import click", 2),
        ("apply --dry-run", "import libcst", 4),
        ("status", "import click", None),
        ("revert", "import click", None),
    ):
        wanted = f" (at most {limit})" if limit else ""
        print(f"{title} / {reference}: {best[title] / best[reference]:.2f}{wanted}")


if __name__ == "__main__":
    main()

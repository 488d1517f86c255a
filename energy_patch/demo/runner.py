"""`energy-patch demo`: the bundled codebase trained as it is, patched, trained again, and trained on one rank."""

from __future__ import annotations

import csv
import importlib.util
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, TextIO

import click

from energy_patch.refusal import Refusal
from energy_patch.strategies.base import TAU

SAMPLE = Path(__file__).with_name("sample")
SCRIPT = "finetune_Energy.py"
MARKER = ".energy-patch-demo"  # a folder that holds it is ours to write into again
CODEBASE, RUNS_FOLDER = "codebase", "runs"
FIGURE, CURVES, TABLE = "held_out.png", "held_out.csv", "table.csv"
CANDIDATES = 24
STEPS = 250
ORIGINAL_TAU = "0.5"  # at the original's temperature only the negatives and the shared model differ
STALL_LIMIT = 120.0  # seconds without a step: the run hangs


class Run(NamedTuple):
    name: str
    label: str
    ranks: int
    batch_size: int
    patched: bool
    colour: str
    style: str

    @property
    def negatives(self) -> int:
        """Negatives that each sample meets in a step."""
        return self.batch_size * (self.ranks if self.patched else 1) - 1


BEFORE = Run("as-it-is", "8 ranks x 3, as it is", 8, 3, False, "#D55E00", "-")
ONE_RANK = Run("one-rank", "1 rank x 24, as it is", 1, 24, False, "#4D4D4D", "--")
AFTER = Run("patched", f"8 ranks x 3, patched, tau {ORIGINAL_TAU} as before", 8, 3, True, "#0072B2", "-")
DEFAULT = Run("patched-default", f"8 ranks x 3, patched, tau {TAU.default}", 8, 3, True, "#009E73", "-")


class Trained(NamedTuple):
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


def run_demo(out: Path, console: TextIO, *, steps: int = STEPS) -> None:
    """Leave codebase, runs, table and figure in `out`; tell the story on `console`.

    Raises `Refusal` if something is missing or in the way, or if a training fails.
    """
    _require("torch", "matplotlib")
    out = out.resolve()
    _make_room(out)
    codebase = out / CODEBASE
    _copy_sample(codebase)
    _say(console, f"A small training codebase is in {_shown(codebase)}: a policy, an energy model, {SCRIPT}.")
    _say(console, "Four short trainings follow, two to three minutes in all on two cores.")

    before, one_rank = (_train(run, codebase, out, steps, console) for run in (BEFORE, ONE_RANK))
    _patch(codebase, console, "--tau", ORIGINAL_TAU)
    after = _train(AFTER, codebase, out, steps, console)
    _patch(codebase, console, "--tau", str(TAU.default))
    default = _train(DEFAULT, codebase, out, steps, console)

    results = [before, one_rank, after, default]
    _write_numbers(results, out)
    _plot(results, out / FIGURE)
    _say(console, "", *_table(results), "")
    _say(console, f"Step times: all ranks share this machine's {os.cpu_count()} cores.")
    _say(console, f"Figure:   {_shown(out / FIGURE)}")
    _say(console, f"Numbers:  {_shown(out / TABLE)}, {_shown(out / CURVES)}", "")
    _say(console, "Your own script:", "    energy-patch apply --strategy global path/to/finetune_Energy.py")


def _require(*modules: str) -> None:
    missing = [name for name in modules if importlib.util.find_spec(name) is None]
    if missing:
        raise Refusal(
            "unsupported",
            f"the demo needs {' and '.join(missing)}: install them with `pip install 'energy-patch[demo]'`",
        )


def _make_room(out: Path) -> None:
    try:
        if out.exists() and not out.is_dir():
            raise Refusal("conflict", f"{_shown(out)} is a file: name a folder with --out")
        if out.exists() and any(out.iterdir()) and not (out / MARKER).is_file():
            raise Refusal("conflict", f"{_shown(out)} holds something else: name another folder with --out")
        out.mkdir(parents=True, exist_ok=True)
        (out / MARKER).write_text("Written by `energy-patch demo`, which may overwrite this folder.\n")
        for name in (CODEBASE, RUNS_FOLDER):
            shutil.rmtree(out / name, ignore_errors=True)
        for name in (FIGURE, CURVES, TABLE):
            (out / name).unlink(missing_ok=True)
    except OSError as error:
        raise Refusal("unwritable", f"{_shown(out)}: {error.strerror}") from error


def _copy_sample(target: Path) -> None:
    shutil.copytree(SAMPLE, target, ignore=shutil.ignore_patterns("__pycache__", RUNS_FOLDER))


def _patch(codebase: Path, console: TextIO, *options: str) -> None:
    """Show what `apply` will change, and change it."""
    _say(console, "", f"$ energy-patch {shlex.join(('apply', *options, SCRIPT))}")
    _energy_patch(codebase, console, "apply", *options, "--dry-run", SCRIPT)
    _energy_patch(codebase, console, "apply", *options, SCRIPT, quiet=True)


def _energy_patch(codebase: Path, console: TextIO, *arguments: str, quiet: bool = False) -> None:
    command = [sys.executable, "-m", "energy_patch", *arguments]
    environment = _environment()
    show = console.isatty() and not quiet  # then the diff has colours
    console.flush()
    done = subprocess.run(
        command,
        cwd=codebase,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=console if show else subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        errors="replace",
        timeout=60,
        check=False,
    )
    if done.returncode:
        raise Refusal("unsupported", f"`energy-patch {shlex.join(arguments)}` failed:\n{done.stderr.strip()}")
    if not show and not quiet:
        _say(console, done.stdout.rstrip())


def _train(run: Run, codebase: Path, out: Path, steps: int, console: TextIO) -> Trained:
    flags = ["--batch_size", str(run.batch_size), "--max_steps", str(steps), "--seed", "0"]
    _say(console, "", f"{run.label}:", f"$ torchrun --nproc-per-node {run.ranks} {SCRIPT} {shlex.join(flags)}")
    folder = out / RUNS_FOLDER / run.name
    folder.mkdir(parents=True)
    flags += ["--runs", str(folder.parent), "--run_name", run.name]
    flags += ["--log_freq", "1", "--held_out_freq", str(max(1, steps // 6))]
    command = [sys.executable, "-m", "energy_patch.demo.launch", "--ranks", str(run.ranks), SCRIPT, *flags]
    with (
        _ranks(command, codebase, folder / "log.txt") as launcher,
        click.progressbar(length=steps, label="training", file=console) as bar,
    ):
        seen, since = 0, time.monotonic()
        while launcher.poll() is None:
            time.sleep(0.1)
            step = _last_step(folder / "train.csv")
            if step > seen:
                bar.update(step - seen)
                seen, since = step, time.monotonic()
            elif time.monotonic() - since > STALL_LIMIT:
                raise Refusal("unsupported", f"{run.label}: no step for {STALL_LIMIT:.0f} s, stopped")
        if launcher.returncode == 0:
            bar.update(steps - seen)
    if launcher.returncode:
        tail = (folder / "log.txt").read_text(encoding="utf-8", errors="replace").splitlines()[-12:]
        raise Refusal("unsupported", "\n".join([f"{run.label}: the training failed", *tail]))
    trained = _read(run, folder / "held_out.csv")
    _say(
        console,
        f"    held-out top-1 of {CANDIDATES}: {trained.top1[0]:.3f} after the first step, "
        f"{trained.top1[-1]:.3f} after {trained.steps[-1]}",
    )
    return trained


@contextmanager
def _ranks(command: list[str], folder: Path, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """The launcher and its ranks in a process group of their own, which does not outlive the block."""
    with log.open("wb") as sink:
        launcher = subprocess.Popen(
            command,
            cwd=folder,
            env=_environment(),
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield launcher
    finally:
        _kill_group(launcher)


def _kill_group(launcher: subprocess.Popen[bytes]) -> None:
    if sys.platform == "win32":
        launcher.kill()
    elif launcher.poll() is None:  # not reaped yet, so the number still means this group
        os.killpg(launcher.pid, signal.SIGKILL)
    launcher.wait()


def _environment() -> dict[str, str]:
    package_root = str(Path(__file__).parents[2])
    paths = [package_root, os.environ.get("PYTHONPATH", "")]
    return {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join(path for path in paths if path),
        "PYTHONUTF8": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
    }


def _last_step(path: Path) -> int:
    """The step of the last whole line, 0 before there is one."""
    try:
        lines = path.read_bytes().split(b"\n")
    except OSError:
        return 0
    step = lines[-2].split(b",")[0] if len(lines) > 1 else b""
    return int(step) if step.isdigit() else 0


def _read(run: Run, path: Path) -> Trained:
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return Trained(
        run,
        [int(row["step"]) for row in rows],
        [float(row["top1"]) for row in rows],
        [float(row["seconds"]) for row in rows],
    )


def _write_numbers(results: list[Trained], out: Path) -> None:
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


def _table(results: list[Trained]) -> list[str]:
    """Held-out accuracy, step time and negatives of each run, as lines of text."""
    header = ("", f"held-out top-1 of {CANDIDATES}", "negatives", "step time")
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


def _plot(results: list[Trained], path: Path) -> None:
    from energy_patch.demo.plot import Curve, plot_curves

    curves = [
        Curve(result.run.label, result.run.colour, result.run.style, result.steps, result.top1) for result in results
    ]
    plot_curves(curves, CANDIDATES, path)


def _shown(path: Path) -> str:
    """The path as the user would type it."""
    return os.path.relpath(path) if path.is_relative_to(Path.cwd()) else str(path)


def _say(console: TextIO, *lines: str) -> None:
    encoding = console.encoding or "utf-8"  # a StringIO has none; a console may not know every character
    for line in lines:
        console.write(line.encode(encoding, "backslashreplace").decode(encoding) + "\n")
    console.flush()

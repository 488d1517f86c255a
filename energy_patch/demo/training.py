"""One training of the demo: its ranks, its progress, and no process left behind."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

import click

from energy_patch.demo.console import say
from energy_patch.demo.runs import CANDIDATES, Run, Trained, read_run
from energy_patch.refusal import Refusal

SCRIPT = "finetune_Energy.py"
RUNS_FOLDER = "runs"
STALL_LIMIT = 120.0  # seconds without a step: the run hangs


def train(run: Run, codebase: Path, out: Path, steps: int, console: TextIO) -> Trained:
    """Train the codebase as a run says, with a progress bar.

    Raises:
        Refusal: `unsupported`, if the training fails or hangs.
    """
    flags = ["--batch_size", str(run.batch_size), "--max_steps", str(steps), "--seed", "0"]
    say(console, "", f"{run.label}:", f"$ torchrun --nproc-per-node {run.ranks} {SCRIPT} {shlex.join(flags)}")
    folder = out / RUNS_FOLDER / run.name
    folder.mkdir(parents=True)
    flags += ["--runs", str(folder.parent), "--run_name", run.name]
    flags += ["--log_freq", "1", "--held_out_freq", str(max(1, steps // 5))]
    command = [sys.executable, "-m", "energy_patch.demo.launch", "--ranks", str(run.ranks), SCRIPT, *flags]
    with _ranks(command, codebase, folder / "log.txt") as launcher:
        _follow(launcher, run, folder / "train.csv", steps, console)
    if launcher.returncode:
        tail = (folder / "log.txt").read_text(encoding="utf-8", errors="replace").splitlines()[-12:]
        raise Refusal("unsupported", "\n".join([f"{run.label}: the training failed", *tail]))
    trained = read_run(run, folder / "held_out.csv")
    say(
        console,
        f"    held-out top-1 of {CANDIDATES}: {trained.top1[0]:.3f} after the first step, "
        f"{trained.top1[-1]:.3f} after {trained.steps[-1]}",
    )
    return trained


def _follow(launcher: subprocess.Popen[bytes], run: Run, written: Path, steps: int, console: TextIO) -> None:
    """Show the steps that rank 0 writes down, until the launcher ends."""
    with click.progressbar(length=steps, label="training", file=console) as bar:
        seen, since = 0, time.monotonic()
        while launcher.poll() is None:
            time.sleep(0.1)
            step = _last_step(written)
            if step > seen:
                bar.update(step - seen)
                seen, since = step, time.monotonic()
            elif time.monotonic() - since > STALL_LIMIT:
                raise Refusal("unsupported", f"{run.label}: no step for {STALL_LIMIT:.0f} s, stopped")
        if launcher.returncode == 0:
            bar.update(steps - seen)


@contextmanager
def _ranks(command: list[str], folder: Path, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """The launcher and its ranks in a process group of their own, which does not outlive the block."""
    with log.open("wb") as sink:
        launcher = subprocess.Popen(
            command,
            cwd=folder,
            env=environment(),
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


def environment() -> dict[str, str]:
    """The variables of a process that finds this package, and takes one core."""
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

"""`energy-patch demo`: the bundled codebase trained as it is, patched, trained again, and trained on one rank."""

from __future__ import annotations

import importlib.util
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TextIO

from energy_patch.demo.console import say, shown
from energy_patch.demo.results import CURVES, FIGURE, TABLE, plot, table, write_numbers
from energy_patch.demo.runs import AFTER, BEFORE, ONE_RANK, ORIGINAL_TAU, WITH_DEFAULT
from energy_patch.demo.training import RUNS_FOLDER, SCRIPT, environment, train
from energy_patch.refusal import Refusal
from energy_patch.strategies.base import TAU
from energy_patch.strategies.registry import DEFAULT as DEFAULT_STRATEGY

SAMPLE = Path(__file__).with_name("sample")
MARKER = ".energy-patch-demo"  # a folder that holds it is ours to write into again
CODEBASE = "codebase"
STEPS = 150


def run_demo(out: Path, console: TextIO, *, steps: int = STEPS) -> None:
    """Leave codebase, runs, table and figure in `out`; tell the story on `console`.

    Raises:
        Refusal: something is missing or in the way, or a training fails.
    """
    _require("torch", "matplotlib")
    out = out.resolve()
    _make_room(out)
    codebase = out / CODEBASE
    _copy_sample(codebase)
    say(console, f"A small training codebase is in {shown(codebase)}: a policy, an energy model, {SCRIPT}.")
    say(console, "Four short trainings follow, two to three minutes in all on two cores.")

    before, one_rank = (train(run, codebase, out, steps, console) for run in (BEFORE, ONE_RANK))
    _patch(codebase, console, "--tau", ORIGINAL_TAU)
    after = train(AFTER, codebase, out, steps, console)
    _patch(codebase, console, "--tau", str(TAU.default))
    default = train(WITH_DEFAULT, codebase, out, steps, console)

    results = [before, one_rank, after, default]
    write_numbers(results, out)
    plot(results, out / FIGURE)
    say(console, "", *table(results), "")
    say(console, f"Step times: all ranks share this machine's {os.cpu_count()} cores.")
    say(console, f"Figure:   {shown(out / FIGURE)}")
    say(console, f"Numbers:  {shown(out / TABLE)}, {shown(out / CURVES)}", "")
    say(console, "Your own script:", f"    energy-patch apply --strategy {DEFAULT_STRATEGY} path/to/{SCRIPT}")


def _require(*modules: str) -> None:
    missing = [name for name in modules if importlib.util.find_spec(name) is None]
    if missing:
        raise Refusal(
            "unsupported",
            f"the demo needs {' and '.join(missing)}; in a checkout of energy-patch: `pip install '.[demo]'`",
        )


def _make_room(out: Path) -> None:
    try:
        if out.exists() and not out.is_dir():
            raise Refusal("conflict", f"{shown(out)} is a file: name a folder with --out")
        if out.exists() and any(out.iterdir()) and not (out / MARKER).is_file():
            raise Refusal("conflict", f"{shown(out)} holds something else: name another folder with --out")
        out.mkdir(parents=True, exist_ok=True)
        (out / MARKER).write_text("Written by `energy-patch demo`, which may overwrite this folder.\n")
        for name in (CODEBASE, RUNS_FOLDER):
            shutil.rmtree(out / name, ignore_errors=True)
        for name in (FIGURE, CURVES, TABLE):
            (out / name).unlink(missing_ok=True)
    except OSError as error:
        raise Refusal("unwritable", f"{shown(out)}: {error.strerror}") from error


def _copy_sample(target: Path) -> None:
    shutil.copytree(SAMPLE, target, ignore=shutil.ignore_patterns("__pycache__", RUNS_FOLDER))


def _patch(codebase: Path, console: TextIO, *options: str) -> None:
    """Show what `apply` will change, and change it."""
    say(console, "", f"$ energy-patch {shlex.join(('apply', *options, SCRIPT))}")
    _energy_patch(codebase, console, "apply", *options, "--dry-run", SCRIPT)
    _energy_patch(codebase, console, "apply", *options, SCRIPT, quiet=True)


def _energy_patch(codebase: Path, console: TextIO, *arguments: str, quiet: bool = False) -> None:
    command = [sys.executable, "-m", "energy_patch", *arguments]
    show = console.isatty() and not quiet  # then the diff has colors
    console.flush()
    done = subprocess.run(
        command,
        cwd=codebase,
        env=environment(),
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
        say(console, done.stdout.rstrip())

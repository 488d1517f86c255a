"""Processes from one that has imported torch already, since that takes longer than most trainings."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

from energy_patch.demo.launch import PRELOADED
from energy_patch.demo.launch import launch as run_ranks

# In a process of its own, since one that has computed something must not be forked.
SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload([*PRELOADED])


class Finished(NamedTuple):
    """What a launch left; its status is negative where it was killed, at the end of its time too."""

    status: int
    output: str
    errors: str


def launch(ranks: int, script: Path, *arguments: object, seconds: float) -> Finished:
    """`energy_patch.demo.launch` of a script on so many ranks, in its own folder."""
    with tempfile.TemporaryDirectory() as logs:
        process = SERVER.Process(target=_launch, args=(ranks, script, [*map(str, arguments)], logs))
        process.start()
        process.join(seconds)
        if process.exitcode is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.join()
        output, errors = (Path(logs, name).read_text("utf-8") for name in ("output", "errors"))
        return Finished(process.exitcode, output, errors)


def _launch(ranks: int, script: Path, arguments: list[str], logs: str) -> None:
    os.setsid()
    for descriptor, name in ((1, "output"), (2, "errors")):
        os.dup2(os.open(f"{logs}/{name}", os.O_WRONLY | os.O_CREAT), descriptor)
    os.chdir(script.parent)
    os.environ.update(OMP_NUM_THREADS="1", PYTHONDONTWRITEBYTECODE="1")
    import torch

    torch.set_num_threads(1)
    sys.exit(run_ranks(ranks, script, arguments))

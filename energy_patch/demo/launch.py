"""`torchrun` for one small machine: imports torch once, then forks the ranks.

Eight interpreters that each import torch keep two cores busy for longer than a short training does.

    python -m energy_patch.demo.launch --ranks 8 finetune_Energy.py --batch_size 3
"""

from __future__ import annotations

import contextlib
import importlib
import multiprocessing
import os
import runpy
import socket
import sys
import threading
import time
from multiprocessing.connection import wait
from pathlib import Path

LOOPBACK = "127.0.0.1"
# The last one is what an optimizer imports on its first step.
PRELOADED = ("torch", "torch.distributed", "torch.nn.parallel", "torch.utils.data", "torch._dynamo")


def launch(ranks: int, script: Path, arguments: list[str]) -> int:
    """Run `script` as its own `__main__` on every rank; 0 if all of them succeed. One failure ends the others."""
    parent = os.getppid()
    os.environ.update(
        MASTER_ADDR=LOOPBACK, MASTER_PORT=str(_free_port()), WORLD_SIZE=str(ranks), LOCAL_WORLD_SIZE=str(ranks)
    )
    if sys.platform == "linux":
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
        _import_torch()
        context = multiprocessing.get_context("fork")
    else:
        context = multiprocessing.get_context("spawn")
    processes = [
        context.Process(target=_run_rank, args=(rank, script.resolve(), arguments), daemon=True)
        for rank in range(ranks)
    ]
    for process in processes:
        process.start()
    try:
        while any(process.is_alive() for process in processes):
            wait([process.sentinel for process in processes if process.is_alive()], timeout=0.2)
            if any(process.exitcode for process in processes) or os.getppid() != parent:
                return 1
        return 1 if any(process.exitcode for process in processes) else 0
    finally:
        for process in processes:
            process.kill()
            process.join()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        port: int = probe.getsockname()[1]
        return port


def _import_torch() -> None:
    for name in PRELOADED:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)


def _run_rank(rank: int, script: Path, arguments: list[str]) -> None:
    threading.Thread(target=_end_with_launcher, daemon=True).start()
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank))
    sys.argv = [str(script), *arguments]
    sys.path.insert(0, str(script.parent))
    runpy.run_path(str(script), run_name="__main__")


def _end_with_launcher() -> None:
    launcher = multiprocessing.parent_process()
    if launcher is not None:
        launcher.join()
    os._exit(1)


if __name__ == "__main__":
    started = time.monotonic()
    if len(sys.argv) < 4 or sys.argv[1] != "--ranks" or not sys.argv[2].isdecimal():
        sys.exit("usage: python -m energy_patch.demo.launch --ranks N SCRIPT [ARGUMENT ...]")
    status = launch(int(sys.argv[2]), Path(sys.argv[3]), sys.argv[4:])
    print(f"{sys.argv[2]} ranks, {time.monotonic() - started:.1f} s, exit {status}")
    sys.exit(status)

"""For ``energy_losses.check``: joining the ranks, and ending all of them with one line where one has a problem.

Figures travel by collectives of this file's own: what is judged takes no part in judging.
"""

import argparse
import os
import sys
import threading
import time
from datetime import timedelta
from typing import Any, NamedTuple, NoReturn

import torch
import torch.distributed as dist
from torch import Tensor, nn

NAME = "energy_losses.check"
# Of the contexts; the second on a CPU, where a step of several ranks at the first takes half a minute.
SIZES = {"state_dim": (4096, 512), "sequence": (610, 64)}


class Stop(Exception):
    """A problem that its text explains."""


class Job(NamedTuple):
    """What all ranks were started with, and this rank's place."""

    options: argparse.Namespace
    rank: int
    world: int
    backend: str
    device: torch.device

    @property
    def dtype(self) -> torch.dtype:
        dtype: torch.dtype = getattr(torch, self.options.dtype)
        return dtype

    def gather(self, *values: float) -> list[list[float]]:
        """Every rank's values, in rank order; no rank goes on before all have come."""
        mine = torch.tensor(values, dtype=torch.float64, device=self._wire)
        every = [torch.empty_like(mine) for _ in range(self.world)]
        dist.all_gather(every, mine)
        return [each.tolist() for each in every]

    def largest_difference(self, tensor: Tensor) -> float:
        """The largest difference that an element has between any two ranks."""
        highest, lowest = (tensor.to(self._wire, copy=True) for _ in range(2))
        dist.all_reduce(highest, op=dist.ReduceOp.MAX)
        dist.all_reduce(lowest, op=dist.ReduceOp.MIN)
        return float((highest - lowest).abs().max())

    def mean(self, tensor: Tensor) -> Tensor:
        total = tensor.to(self._wire, copy=True)
        dist.all_reduce(total)
        return total.to(tensor.device) / self.world

    @torch.no_grad()
    def copy_to_all(self, model: nn.Module) -> None:
        """Give every rank rank 0's parameters and buffers."""
        for tensor in [*model.parameters(), *model.buffers()]:
            sent = tensor.detach().to(self._wire, copy=True)
            dist.broadcast(sent, src=0)
            tensor.copy_(sent)

    @property
    def _wire(self) -> torch.device:
        return torch.device("cpu") if self.backend == "gloo" else self.device


def join(options: argparse.Namespace) -> Job:
    """Make the process group that ``torchrun`` has set the environment for."""
    rank, world, local = (int(os.environ.get(name, "0")) for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"))
    if world < 2:
        command = f"torchrun --nproc-per-node 8 -m {NAME} {options.model}"
        raise Stop(f"needs at least 2 ranks and has {max(world, 1)}; start it as the training: {command}")
    gpus = torch.cuda.device_count()
    device = _device(options.device or ("cuda" if gpus else "cpu"), local, gpus)
    for name, (usual, on_cpu) in SIZES.items():
        if getattr(options, name) is None:
            setattr(options, name, on_cpu if device.type == "cpu" else usual)
    own_gpu = device.type == "cuda" and int(os.environ.get("LOCAL_WORLD_SIZE", world)) <= gpus
    backend = options.backend or ("nccl" if own_gpu else "gloo")
    if backend == "nccl" and not own_gpu:
        raise Stop("--backend nccl needs a GPU for each rank here; gloo also takes ranks that share one, or have none")
    try:
        dist.init_process_group(backend, timeout=timedelta(hours=1))  # rank 0 computes alone for a while
    except Exception as error:
        raise Stop(f"no process group with --backend {backend}: {one_line(error)}") from None
    return Job(options, rank, world, backend, device)


def _device(name: str, local: int, gpus: int) -> torch.device:
    try:
        device = torch.device(name)
        if device.type == "cuda":
            if gpus == 0:
                raise Stop("there is no GPU here; --device cpu checks on CPU ranks")
            device = device if device.index is not None else torch.device("cuda", local % gpus)
            torch.cuda.set_device(device)
        torch.zeros(1, device=device).tolist()
    except Stop:
        raise
    except Exception as error:
        raise Stop(f"cannot compute on --device {name}: {one_line(error)}") from None
    return device


class Alarm:
    """Ends all ranks with one line when one of them has a problem, whatever the others are waiting for."""

    def __init__(self, job: Job) -> None:
        self.stage, self._job, self._problem = "", job, ""
        self._code: int | None = None
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def ring(self, error: BaseException) -> NoReturn:
        self._problem = str(error) if isinstance(error, Stop) else self._described(error)
        self._thread.join()
        os._exit(1)

    def leave(self, code: int) -> NoReturn:
        self._code = code
        self._thread.join()
        os._exit(code)

    def _described(self, error: BaseException) -> str:
        where = f"rank {self._job.rank} of {self._job.world}, {self.stage}: "
        text = one_line(error)
        if isinstance(error, (MemoryError, torch.cuda.OutOfMemoryError)) or "allocate memory" in str(error):
            return f"{where}out of memory ({text}); try a smaller --batch-size or --sequence"
        return f"{where}{type(error).__name__}: {text}"

    def _watch(self) -> None:
        try:
            # A client of its own: one that a collective is waiting on cannot be asked.
            address = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
            store = dist.TCPStore(*address, is_master=False)  # type: ignore[attr-defined]
            while self._code is None:
                time.sleep(0.1)
                if self._problem:
                    store.compare_set(f"{NAME}/problem", "", self._problem)  # the first one's stays
                    store.add(f"{NAME}/rings", 1)
                if store.add(f"{NAME}/rings", 0):  # which torch 2.2 can ask without waiting, as `check` it cannot
                    _say(store.get(f"{NAME}/problem").decode())
                    self._code = 1
            self._wait_for_all(store)
        except RuntimeError as error:  # the store has gone
            if self._problem or self._code is None:
                _say(self._problem or one_line(error))
        sys.stdout.flush()
        os._exit(1 if self._code is None else self._code)  # tearing a process group down can hang in torch 2.2

    def _wait_for_all(self, store: Any) -> None:
        """The launcher kills the others where one ends, and rank 0 may hold the store, so it goes last."""
        deadline = time.monotonic() + 10
        store.add(f"{NAME}/left", 1)
        while store.add(f"{NAME}/left", 0) < self._job.world and time.monotonic() < deadline:
            time.sleep(0.05)
        time.sleep(0.5 if self._job.rank == 0 else 0)


def _say(problem: str) -> None:
    """In one write, so that the ranks' lines stay lines."""
    sys.stderr.write(f"{NAME}: {problem}\n")
    sys.stderr.flush()


def one_line(error: BaseException) -> str:
    """What an error says, however it is laid out."""
    text = " ".join(str(error).split())
    return text if len(text) <= 300 else f"{text[:300]} ..."

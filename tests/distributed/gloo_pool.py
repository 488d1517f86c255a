"""Real gloo ranks for tests: worker processes that start once, and a fresh process group for each job."""

import importlib.util
import pickle
import tempfile
import time
import traceback
from datetime import timedelta
from functools import cache
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from tests.scripts.forked import SERVER

JOB_SECONDS = 60.0
COLLECTIVES = ("all_", "barrier", "broadcast", "gather", "monitored", "recv", "reduce", "scatter", "send")


class RankError(AssertionError):
    """A job failed on a rank, or did not end in time."""


class GlooPool:
    """``pool.run(world, function, *args)`` gives ``function(rank, world, *args)`` of each rank, in rank order.

    The function must stand at the top level of its file, which the workers load by its path.
    """

    def __init__(self) -> None:
        self._workers: list[tuple[Any, Connection]] = []

    def run(self, world: int, function: Any, *args: Any, seconds: float = JOB_SECONDS) -> list[Any]:
        answers = self.outcomes(world, function, *args, seconds=seconds)
        failed = [f"rank {rank}:\n{answer[1]}" for rank, answer in enumerate(answers) if answer[0] != "ok"]
        if failed:
            raise RankError("\n".join(failed))
        return [answer[1] for answer in answers]

    def outcomes(
        self, world: int, function: Any, *args: Any, seconds: float = JOB_SECONDS
    ) -> list[tuple[str, Any, float]]:
        """For each rank ("ok", result, seconds taken) or ("failed", traceback or reason, seconds taken)."""
        started = [_start_worker() for _ in range(world - len(self._workers))]
        for _, connection in started:
            connection.recv_bytes()  # imports take long where others need the processor, and are no part of a job
        self._workers += started
        workers = self._workers[:world]
        answers: dict[int, tuple[str, Any, float]] = {}
        with tempfile.TemporaryDirectory() as folder:
            for rank, (_, connection) in enumerate(workers):
                job = function.__code__.co_filename, function.__name__, rank, world, f"{folder}/store", args
                connection.send_bytes(pickle.dumps(job))
            deadline = time.monotonic() + seconds
            while len(answers) < world and time.monotonic() < deadline:
                open_ = [connection for rank, (_, connection) in enumerate(workers) if rank not in answers]
                for connection in wait(open_, timeout=max(0.0, deadline - time.monotonic())):
                    rank = next(r for r, (_, c) in enumerate(workers) if c is connection)
                    try:
                        answers[rank] = pickle.loads(connection.recv_bytes())
                    except (EOFError, OSError):
                        answers[rank] = ("failed", "the process died", 0.0)
        if len(answers) < world or any(kind == "failed" for kind, *_ in answers.values()):
            self.close()  # what has failed may hang in its group's end
        return [answers.get(rank, ("failed", f"no answer within {seconds} s", seconds)) for rank in range(world)]

    def close(self) -> None:
        for process, connection in self._workers:
            process.kill()
            process.join()
            connection.close()
        self._workers = []


def forbid_collectives(patch: Any) -> None:
    """Make every collective of torch raise, while a ``pytest.MonkeyPatch`` lasts."""
    import torch.distributed as dist

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("a collective was issued")

    names = [name for name in dir(dist) if name.startswith(COLLECTIVES)]
    assert {"all_gather", "all_gather_into_tensor", "all_reduce", "barrier", "broadcast"} <= set(names)
    for name in names:
        patch.setattr(dist, name, refuse)


def _start_worker() -> tuple[Any, Connection]:
    ours, theirs = SERVER.Pipe()
    process = SERVER.Process(target=_work, args=(theirs,), daemon=True)
    process.start()
    theirs.close()
    return process, ours


def _work(connection: Connection) -> None:
    import torch

    torch.set_num_threads(1)
    connection.send_bytes(b"ready")
    while True:
        try:
            job = connection.recv_bytes()
        except EOFError:
            return
        start = time.monotonic()
        try:
            answer = ("ok", _run_job(*pickle.loads(job)))
        except BaseException:
            answer = ("failed", traceback.format_exc())
        connection.send_bytes(pickle.dumps((*answer, time.monotonic() - start)))
        _leave_groups(has_failed=answer[0] == "failed")  # behind the answer: in torch 2.2 this can hang


_latest_groups: list[Any] = []


def _leave_groups(*, has_failed: bool) -> None:
    """Freed groups close their connections, which tells the other ranks of a failure, but hangs in torch 2.2."""
    import torch.distributed as dist

    if dist.is_initialized():
        _latest_groups[:] = [] if has_failed else dist.distributed_c10d._world.pg_map
        dist.destroy_process_group()


def _run_job(file: str, name: str, rank: int, world: int, store: str, args: tuple[Any, ...]) -> Any:
    import torch.distributed as dist

    function = getattr(_load(file), name)
    dist.init_process_group(
        "gloo", init_method=f"file://{store}", rank=rank, world_size=world, timeout=timedelta(seconds=20)
    )
    return function(rank, world, *args)


@cache
def _load(file: str) -> Any:
    spec = importlib.util.spec_from_file_location(f"job_{Path(file).stem}", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module

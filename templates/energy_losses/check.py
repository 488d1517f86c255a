"""Proof on your own machines that the ranks train as one process: run it before the first long run.

    torchrun --nproc-per-node 8 -m energy_losses.check energy.energy_model:EnergyModel

in the folder of the patched script. It makes random contexts and actions, checks the loss that ``patch.json`` records,
prints a line per claim on rank 0, and exits with 1 if one FAILED. The dimensions, the backend, the device and the dtype
of the weights are options (``--help``). What a claim is compared with is written out below, pair by pair, and its
figures travel by collectives of this file's own: what is judged takes no part in judging.
"""

import argparse
import ast
import copy
import importlib
import inspect
import itertools
import json
import math
import os
import pkgutil
import re
import statistics
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from .exchange import exchange
from .ranks import average_gradients, replicate, training_ranks

_NAME = "energy_losses.check"
_TAU = 0.07  # what `energy-patch apply` sets where it is not told another
_ALLOWED = {torch.float64: 1e-10, torch.float32: 1e-4, torch.float16: 1e-2, torch.bfloat16: 5e-2}  # relative errors
_PAIRS_AT_A_TIME = 16


class Stop(Exception):
    """A problem that its text explains."""


def main() -> None:
    options = _options()
    try:
        job = _join(options)
    except Stop as problem:
        sys.exit(f"{_NAME}: {problem}")
    alarm = _Alarm(job)
    try:
        alarm.leave(_check_all(job, alarm))
    except Exception as error:
        alarm.ring(error)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog=_NAME, description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("model", metavar="MODULE:CLASS", help="the energy model, made as CLASS(state_dim, action_dim)")
    numbers = {"batch-size": 3, "state-dim": 4096, "sequence": 610, "chunk": 8, "action-dim": 7}
    for name, default in {**numbers, "accumulate": 1, "steps": 20}.items():
        parser.add_argument(f"--{name}", type=_count, default=default, metavar="N", help=f"default: {default}")
    parser.add_argument("--tau", type=float, help=f"temperature (default: the record's, or {_TAU})")
    parser.add_argument("--backend", help="default: nccl where each rank has a GPU, else gloo")
    parser.add_argument("--device", help="default: cuda if there is a GPU, else cpu")
    dtypes = {str(dtype).removeprefix("torch."): dtype for dtype in _ALLOWED}
    parser.add_argument("--dtype", choices=dtypes, default="float32", help="of the weights (default: float32)")
    help_ = "for CLASS: values in the place of state_dim and action_dim, and NAME=VALUE"
    parser.add_argument("--model-args", nargs="*", default=[], metavar="ARG", help=help_)
    return parser.parse_args()


def _count(text: str) -> int:
    if (number := int(text)) < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, not {number}")
    return number


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
        """Every rank's values, in rank order."""
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

    @property
    def _wire(self) -> torch.device:
        return torch.device("cpu") if self.backend == "gloo" else self.device


def _join(options: argparse.Namespace) -> Job:
    rank, world, local = (int(os.environ.get(name, "0")) for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"))
    if world < 2:
        command = f"torchrun --nproc-per-node 8 -m {_NAME} {options.model}"
        raise Stop(f"needs at least 2 ranks and has {max(world, 1)}; start it as the training: {command}")
    gpus = torch.cuda.device_count()
    device = torch.device(options.device or ("cuda" if gpus else "cpu"))
    if device.type == "cuda":
        if gpus == 0:
            raise Stop("there is no GPU here; --device cpu checks on CPU ranks")
        device = device if device.index is not None else torch.device("cuda", local % gpus)
        torch.cuda.set_device(device)
    own_gpu = device.type == "cuda" and int(os.environ.get("LOCAL_WORLD_SIZE", world)) <= gpus
    backend = options.backend or ("nccl" if own_gpu else "gloo")
    try:
        dist.init_process_group(backend, timeout=timedelta(hours=1))  # rank 0 computes alone for a while
    except (RuntimeError, ValueError) as error:
        raise Stop(f"rank {rank} of {world}: no process group with {backend}: {_first_line(error)}") from None
    return Job(options, rank, world, backend, device)


class _Alarm:
    """Ends all ranks with one line when one of them has a problem, whatever the others are waiting for."""

    def __init__(self, job: Job) -> None:
        self.stage, self._job, self._problem = "", job, ""
        self._code: int | None = None
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def ring(self, error: Exception) -> NoReturn:
        self._problem = str(error) if isinstance(error, Stop) else self._described(error)
        self._thread.join()
        os._exit(1)

    def leave(self, code: int) -> NoReturn:
        self._code = code
        self._thread.join()
        os._exit(code)

    def _described(self, error: Exception) -> str:
        where = f"rank {self._job.rank} of {self._job.world}, {self.stage}: "
        text = _first_line(error)
        if isinstance(error, (MemoryError, torch.cuda.OutOfMemoryError)) or "allocate memory" in str(error):
            return f"{where}out of memory ({text}); try a smaller --batch-size or --sequence"
        return f"{where}{type(error).__name__}: {text}"

    def _watch(self) -> None:
        try:
            # A client of its own: one that a collective is waiting on cannot be asked.
            store = dist.TCPStore(  # type: ignore[attr-defined]
                os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]), is_master=False
            )
            while self._code is None:
                time.sleep(0.1)
                if self._problem:
                    store.compare_set(f"{_NAME}/problem", "", self._problem)  # the first one's stays
                if store.check([f"{_NAME}/problem"]):
                    print(f"{_NAME}: {store.get(f'{_NAME}/problem').decode()}", file=sys.stderr, flush=True)
                    self._code = 1
            self._wait_for_all(store)
        except RuntimeError as error:  # the store has gone
            if self._problem or self._code is None:
                print(f"{_NAME}: {self._problem or _first_line(error)}", file=sys.stderr, flush=True)
        sys.stdout.flush()
        os._exit(1 if self._code is None else self._code)  # tearing a process group down can hang in torch 2.2

    def _wait_for_all(self, store: Any) -> None:
        """The launcher kills the others where one ends, and rank 0 may hold the store, so it goes last."""
        deadline = time.monotonic() + 10
        store.add(f"{_NAME}/left", 1)
        while not store.check([f"{_NAME}/all"]) and time.monotonic() < deadline:
            if self._job.rank == 0 and store.add(f"{_NAME}/left", 0) == self._job.world:
                store.set(f"{_NAME}/all", "")
                time.sleep(0.5)
            time.sleep(0.05)


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [""])[0]


_VERDICTS = {True: "ok", False: "FAILED", None: "-"}


def _check_all(job: Job, alarm: _Alarm) -> int:
    failed = 0
    for loss in _losses(job):
        alarm.stage = "building the model"
        torch.manual_seed(job.rank)  # ranks start apart, as in a script that seeds nothing
        model = _build(job.options).to(job.device, job.dtype)
        if job.rank == 0:
            print(f"{_NAME}: {job.world} ranks x {job.options.batch_size}, {job.backend}, {job.device.type}, {loss}")
        for number, claim in enumerate((_gradient, _drift, _energies, _cost), start=1):
            alarm.stage = f"claim {number}"
            holds, line = claim(job, loss, model)
            failed += holds is False
            if job.rank == 0:
                print(f"{number}. {_VERDICTS[holds]:6}  {line}", flush=True)
    return 1 if failed else 0


def _build(options: argparse.Namespace) -> nn.Module:
    try:
        kind = pkgutil.resolve_name(options.model)
    except (ImportError, AttributeError, ValueError) as error:
        how = "name it MODULE:CLASS, as the script imports it, and start in the script's folder"
        raise Stop(f"cannot import {options.model} ({_first_line(error)}); {how}") from None
    given = [re.match(r"(?:(\w+)=)?(.*)", text, re.DOTALL) for text in options.model_args]
    pairs = [(each[1], _value(each[2])) for each in given if each]
    values = [value for name, value in pairs if not name] or [options.state_dim, options.action_dim]
    named = {name: value for name, value in pairs if name}
    shown = ", ".join([*map(repr, values), *(f"{name}={value!r}" for name, value in named.items())])
    try:
        wanted = f"it takes {inspect.signature(kind)}; give its arguments with --model-args, as 4096 7 hidden=512"
        inspect.signature(kind).bind(*values, **named)
        model = kind(*values, **named)
    except (torch.cuda.OutOfMemoryError, MemoryError):
        raise
    except Exception as error:
        if not callable(kind):
            raise Stop(f"{options.model} is no class but {type(kind).__name__}") from None
        raise Stop(f"cannot make {kind.__name__}({shown}) ({type(error).__name__}: {error}); {wanted}") from None
    if not isinstance(model, nn.Module):
        raise Stop(f"{options.model} makes no torch.nn.Module but {type(model).__name__}")
    return model


def _value(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (SyntaxError, ValueError):
        return text


class Batch(NamedTuple):
    h: Tensor  # [B, S, D], S of the rank's own
    a: Tensor  # [B, H, Da]
    mask: Tensor  # [B, S], True = padding
    layers: list[Tensor]  # each [B, H, Da]


def _batch(job: Job, rank: int, turn: int) -> Batch:
    """Any rank's batch, which every rank can make."""
    o, generator = job.options, torch.Generator().manual_seed(_seed(rank, turn))
    longest = max(1, o.sequence - rank)
    lengths = longest - torch.randint(0, longest // 8 + 1, (o.batch_size,), generator=generator)
    lengths[0] = longest
    h = torch.randn(o.batch_size, longest, o.state_dim, generator=generator).bfloat16()
    actions = 2 * torch.rand(5, o.batch_size, o.chunk, o.action_dim, generator=generator) - 1
    mask = torch.arange(longest) >= lengths[:, None]
    a, *layers = actions.to(job.device, job.dtype)
    return Batch(h.to(job.device, job.dtype), a, mask.to(job.device), layers)


def _seed(rank: int, turn: int) -> int:
    return 1000 * turn + rank + 1


class Loss:
    """A loss as the record has it, and what it compares a row with, which its parameters say."""

    def __init__(self, function: Callable[..., Any], recorded: dict[str, Any], job: Job) -> None:
        o, parameters = job.options, inspect.signature(function).parameters
        tau = o.tau or recorded.get("tau", _TAU)
        wanted = {**recorded, "tau": tau, "world_size": job.world, "local_batch_size": o.batch_size}
        wanted.pop("layer_actions", None)  # a variable's name
        self.function, self.takes_layers = function, "layer_actions" in parameters
        self.given = {name: value for name, value in wanted.items() if name in parameters}
        defaults = {name: each.default for name, each in parameters.items()}
        settings = {**defaults, **self.given}
        self.tau: float = tau
        self.min_distance: float = settings.get("min_distance", 0.0)
        self.all_ranks = "world_size" in parameters
        self.queue_size: int = settings.get("queue_size", 0)
        is_large = o.batch_size >= settings.get("min_local_batch", math.inf)  # for the adaptive loss
        self.made: int = 0 if is_large else settings.get("num_negatives", 0)
        self.weight: float = settings.get("negative_weight", 0.25)

    def __str__(self) -> str:
        return f"{self.function.__name__}({', '.join(f'{name}={value}' for name, value in self.given.items())})"

    def __call__(self, model: nn.Module, batch: Batch) -> Tensor:
        layers = [batch.layers] if self.takes_layers else []
        loss: Tensor = self.function(model, batch.h, batch.a, *layers, batch.mask, **self.given)[0]
        return loss


def _losses(job: Job) -> list[Loss]:
    """What the record says that scripts call now: a loss of this folder, or the original one as before."""
    path = Path(__file__).with_name("patch.json")
    try:
        scripts = json.loads(path.read_text("utf-8"))["scripts"].values()
    except (OSError, ValueError, KeyError):
        raise Stop(f"{path} is missing or no record: energy-patch apply writes it") from None
    losses: dict[str, Loss] = {}
    for script in scripts:
        text = "".join(edit["after"] for edit in script["edits"])
        found = re.findall(r"energy_losses\.(?!ranks|metrics)(\w+) import (\w+)", text)
        functions = [getattr(_sibling(module), name) for module, name in found]
        if not found and not script.get("reaches"):  # the call may stand in a module that is reached
            functions = [_local_loss]
        for loss in (Loss(function, script["options"], job) for function in functions):
            losses[str(loss)] = loss
    return list(losses.values())


def _sibling(name: str) -> Any:
    """A module that is there for the losses that need it; an import statement would have it copied for all."""
    return importlib.import_module(f".{name}", __package__)


def _local_loss(model: nn.Module, h: Tensor, a_pos: Tensor, pad_mask: Tensor, tau: float = _TAU) -> tuple[Tensor]:
    """The script's loss before the patch: all pairs of the rank's own batch."""
    rows = torch.arange(len(h), device=h.device)
    first, second = rows.repeat_interleave(len(h)), rows.repeat(len(h))
    energies = _energy(model, h[first], a_pos[second], pad_mask[first]).view(len(h), len(h))
    return (F.cross_entropy(-energies / tau, rows),)


def _energy(model: nn.Module, h: Tensor, a: Tensor, mask: Tensor) -> Tensor:
    output = model(h, a, mask)
    energies: Tensor = output[0] if isinstance(output, (tuple, list)) else output
    return energies.reshape(-1).to(torch.promote_types(energies.dtype, torch.float32))


# 1. Gradients


def _gradient(job: Job, loss: Loss, model: nn.Module) -> tuple[bool, str]:
    plain = copy.deepcopy(model).eval()
    model.eval()  # dropout off
    turns = 1 + job.options.accumulate  # the first is no part of it: an earlier step, whose actions a queue keeps
    for turn in range(turns):
        if turn == 1:
            model.zero_grad()
        _backward(job, loss, model, turn, job.options.accumulate)
    found = _flat_gradient(model)
    error = 0.0
    if job.rank == 0:
        earlier = found.new_empty(0, job.options.chunk, job.options.action_dim)
        for turn in range(turns):
            batches = [_batch(job, rank, turn) for rank in range(job.world)]
            for rank in range(job.world) if turn else ():
                _plain_backward(loss, plain, batches, rank, turn, earlier, job.world * job.options.accumulate)
            earlier = torch.cat([earlier, *(batch.a for batch in batches)])[-max(1, loss.queue_size) :]
        expected = _flat_gradient(plain)
        error = float((found - expected).norm() / expected.norm())
    ((error,), *_) = job.gather(error)
    allowed, total = _ALLOWED[job.dtype], job.world * job.options.batch_size
    whole = f"one process with all {total}" if loss.all_ranks else "one process, rank after rank"
    return error <= allowed, f"gradient against {whole}, pair by pair: relative error {error:.1e} ({allowed:g} allowed)"


def _backward(job: Job, loss: Loss, model: nn.Module, turn: int, micro: int) -> None:
    batch = _batch(job, job.rank, turn)
    torch.manual_seed(_seed(job.rank, turn))  # of the made negatives
    replicate(model)
    torch.autograd.backward(loss(model, batch) / micro)


def _flat_gradient(model: nn.Module) -> Tensor:
    gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in model.parameters()]
    return torch.cat([gradient.detach().flatten().double() for gradient in gradients])


def _candidates(
    loss: Loss, batches: list[Batch], rank: int, turn: int, earlier: Tensor
) -> tuple[Tensor, Tensor | None, Tensor, Tensor]:
    """What a rank's rows are compared with.

    Shared actions [N, H, Da], made ones [B, M, H, Da], log weights [N + M], and the column of each row's own action.
    """
    batch = batches[rank]
    shared = torch.cat([each.a for each in batches]) if loss.all_ranks else batch.a
    own = torch.arange(len(batch.a), device=batch.a.device) + (rank * len(batch.a) if loss.all_ranks else 0)
    weight, made = loss.weight if len(shared) > 1 else 1.0, None
    if loss.queue_size:
        shared = torch.cat([shared, earlier])
    if loss.made:
        torch.manual_seed(_seed(rank, turn))
        made = _sibling("layer_infonce").make_negatives(batch.a, batch.layers, loss.made)
    weights = [1.0] * len(shared) + [weight] * loss.made
    return shared, made, torch.tensor(weights, device=own.device).log(), own


def _joined(shared: Tensor, made: Tensor | None, rows: int) -> Tensor:
    """[B, N + M, H, Da]"""
    every = shared.expand(rows, *shared.shape)
    return every if made is None else torch.cat([every, made], dim=1)


def _plain_backward(
    loss: Loss, model: nn.Module, batches: list[Batch], rank: int, turn: int, earlier: Tensor, share: int
) -> None:
    """Add a rank's part of the gradient: energies of all pairs, the softmax, and its gradient back through the pairs.

    So the pairs go through the model a few at a time, twice, and memory does not grow with their number.
    """
    batch = batches[rank]
    shared, made, log_weights, own = _candidates(loss, batches, rank, turn, earlier)
    actions = _joined(shared, made, len(batch.a))
    with torch.no_grad():
        table = _table(model, batch, actions).requires_grad_()
    logits = log_weights - table / loss.tau
    if loss.min_distance:
        near = (actions - batch.a[:, None]).float().square().mean(dim=(2, 3)).sqrt() < loss.min_distance
        logits = logits.masked_fill(near.scatter(1, own[:, None], False), -math.inf)
    rows = logits.logsumexp(dim=1) - logits.gather(1, own[:, None]).squeeze(1)
    (of_energies,) = torch.autograd.grad(rows.mean() / share, table)
    parts = torch.split(of_energies.flatten(), _PAIRS_AT_A_TIME)
    for energies, gradient in zip(_parts(model, batch, actions), parts, strict=True):
        torch.autograd.backward(energies, gradient)


def _parts(model: nn.Module, batch: Batch, actions: Tensor) -> Iterator[Tensor]:
    """Energies of all pairs, row after row, a few at a time, each pair with its own copy of the context."""
    rows = torch.arange(len(batch.h), device=batch.h.device).repeat_interleave(actions.shape[1])
    pairs = torch.split(rows, _PAIRS_AT_A_TIME), torch.split(actions.flatten(0, 1), _PAIRS_AT_A_TIME)
    for row, a in zip(*pairs, strict=True):
        yield _energy(model, batch.h[row], a, batch.mask[row])


def _table(model: nn.Module, batch: Batch, actions: Tensor) -> Tensor:
    return torch.cat(list(_parts(model, batch, actions))).view(actions.shape[:2])


# 2. Drift


def _drift(job: Job, loss: Loss, model: nn.Module) -> tuple[bool, str]:
    model.train()
    optimizer, turn = torch.optim.AdamW(model.parameters(), lr=1e-3), itertools.count(100)
    before = _flat_weights(model)
    for _ in range(3):
        optimizer.zero_grad()
        for _ in range(job.options.accumulate):
            _backward(job, loss, model, next(turn), job.options.accumulate)
        nn.utils.clip_grad_norm_(model.parameters(), 1e-3)
        optimizer.step()
    drift, moved = job.largest_difference(_flat_weights(model)), float((_flat_weights(model) - before).abs().max())
    model.zero_grad()
    line = f"drift between ranks after 3 clipped optimizer steps: {drift:.2g} (they moved weights by {moved:.1e})"
    return drift == 0 and moved > 0, line


def _flat_weights(model: nn.Module) -> Tensor:
    return torch.cat([p.detach().flatten().double() for p in model.parameters()])


# 3. Energies


@torch.no_grad()
def _energies(job: Job, loss: Loss, model: nn.Module) -> tuple[bool | None, str]:
    if loss.function is _local_loss:
        return None, "energies: the script's own, pair by pair, as before"
    model.eval()
    batches = [_batch(job, rank, 0) for rank in range(job.world)]
    batch = batches[job.rank]
    shared, made, *_ = _candidates(loss, batches, job.rank, 0, batch.a)
    actions = _joined(shared, made, len(batch.a))
    found = _sibling("scoring").energy_matrix(model, batch.h, shared if made is None else actions, batch.mask)
    expected = _table(model, batch, actions)
    # Against what tells candidates apart; rounding of the energies themselves is allowed.
    error, spread = (found - expected).abs().max(), expected.max() - expected.min()
    rounding = 64 * torch.finfo(job.dtype).eps * expected.abs().max()
    allowed = torch.maximum(_ALLOWED[job.dtype] * spread, rounding)
    figures = job.gather(float(error), float(spread), float(error <= allowed))
    errors, spreads, verdicts = zip(*figures, strict=True)
    materialised = ", ".join(_sibling("scoring").materialised(model)) or "nothing"
    figure = f"difference {max(errors):.1e} where candidates differ by {max(spreads):.1e}"
    return all(verdicts), f"energies against plain pairs, materialised {materialised}: {figure}"


# 4. Cost


def _cost(job: Job, loss: Loss, model: nn.Module) -> tuple[None, str]:
    batch = _batch(job, job.rank, 0)
    ranks, before = training_ranks(), copy.deepcopy(model).train()
    model.train()
    back: Callable[[Tensor], None] = torch.autograd.backward
    steps: dict[str, Callable[[], Any]] = {
        "positives only": lambda: back(_energy(before, batch.h, batch.a, batch.mask).sum()),
        "the local loss as before": lambda: back(_local_loss(before, batch.h, batch.a, batch.mask)[0]),
        "this one": lambda: back(loss(replicate(model), batch)),
        "averaging gradients": lambda: average_gradients(model),
    }
    if loss.all_ranks:
        steps["the exchange"] = lambda: exchange(ranks, batch.h, batch.a, batch.mask, "")
    shown = list(steps)[:3]
    for name in shown:
        steps[name]()  # gradients exist from here on
    memory = [_bytes(job, steps[name], before if name != "this one" else model) for name in shown]
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(job.options.steps):
        for name, step in steps.items():
            job.gather(0)  # ranks begin together
            seconds[name].append(_seconds(job, step))
    median = {name: statistics.median(each) for name, each in seconds.items()}
    unit = median[shown[0]]
    ratios = [
        f"{name} {median[name] / unit:.2f} / {size / memory[0]:.2f}" for name, size in zip(shown, memory, strict=True)
    ]
    alone = [f"{name} {median[name] / unit:.2f}" for name in steps if name not in shown]
    line = f"a step's time / memory, in units of the first: {', '.join(ratios)}; time alone: {', '.join(alone)}"
    return None, f"{line} (unit {1000 * unit:.3g} ms / {memory[0] / 1e6:.3g} MB)"


def _seconds(job: Job, step: Callable[[], Any]) -> float:
    start = time.perf_counter()
    step()
    if job.device.type == "cuda":
        torch.cuda.synchronize(job.device)
    return time.perf_counter() - start


def _bytes(job: Job, step: Callable[[], Any], model: nn.Module) -> int:
    """The most that a step holds at once, beyond what is there before it; on a CPU, what it keeps for its backward."""
    if job.device.type == "cuda":
        before = torch.cuda.memory_allocated(job.device)
        torch.cuda.reset_peak_memory_stats(job.device)
        step()
        return torch.cuda.max_memory_allocated(job.device) - before
    held = {part.data_ptr(): 0 for part in map(Tensor.untyped_storage, model.parameters())}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        held.setdefault(storage.data_ptr(), storage.nbytes())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        step()
    return sum(held.values())


if __name__ == "__main__":
    main()

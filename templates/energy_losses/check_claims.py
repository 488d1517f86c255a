"""For ``energy_losses.check``: what is claimed of a loss, with verdicts; None where nothing is claimed."""

import copy
import itertools
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from .check_alone import SameDraws, alone_backward, pairwise_energies
from .check_job import Job
from .check_losses import FOLDER, Batch, Loss, batch_of, energies_of, original_loss, sibling
from .exchange import exchange
from .membership import training_ranks
from .ranks import average_gradients, replicate

_EXACT = {torch.float64: 1e-10, torch.float32: 1e-4}  # relative errors that are allowed

# 1. Gradients


def check_gradient(job: Job, loss: Loss, model: nn.Module) -> tuple[bool | None, str]:
    model.eval()  # dropout off
    if (problem := _randomness(job, loss, model)) is not None:
        return problem
    micro = job.options.accumulate
    turns = range(1 + micro)  # the first is no part of it: an earlier step, whose actions a queue keeps
    alone = copy.deepcopy(model)
    if not loss.replicated:
        job.copy_to_all(model)
    for turn in turns:
        if turn == 1:
            model.zero_grad()
        _backward(job, loss, model, turn, micro)
    found = _flat_gradient(model)
    if not loss.replicated:
        found = job.mean(found)  # as DistributedDataParallel would take it
    error, size, pulls = 0.0, 0.0, 1.0
    if job.rank == 0:
        for turn in turns:
            batches = [batch_of(job, rank, turn) for rank in range(job.world)]
            pulls *= alone_backward(loss, alone, batches, turn, 1 / micro if turn else 0)
        expected = _flat_gradient(alone)
        size = float(expected.norm())
        error = float((found - expected).norm() / size) if size else 0.0
    (error, size, pulls), *_ = job.gather(error, size, pulls)
    allowed, total = _allowed(job, loss), job.world * job.options.batch_size
    whole = f"one process with all {total}" if loss.spans_ranks else "one process, rank after rank"
    line = f"gradient against {whole}, by plain pairs: relative error {error:.1e} ({allowed:.1g} allowed)"
    if size == 0:
        return False, f"gradient of {whole}: 0, so the energies do not depend on the weights"
    if not pulls:
        line += "; the loss raises the energies of the rows' own actions, or lowers the others'"
    return error <= allowed and pulls == 1, line


def _allowed(job: Job, loss: Loss) -> float:
    """Rounding of 16-bit energies, which are of the order of 1, counts against the temperature that divides them."""
    tau: float = loss.given.get("tau", 1.0)
    return _EXACT.get(job.dtype, 4 * torch.finfo(job.dtype).eps / min(1.0, tau))


@torch.no_grad()
def _randomness(job: Job, loss: Loss, model: nn.Module) -> tuple[bool | None, str] | None:
    """A verdict where the same batch gives something else each time, which nothing can be compared with."""
    batch = batch_of(job, job.rank, 0)
    energies, values = [], []
    for seed in (1, 2):
        torch.manual_seed(seed)
        energies.append(energies_of(model, batch.h, batch.a, batch.mask))
        with SameDraws(0):
            values.append(loss(model, batch))
    random = not torch.equal(*energies), not torch.equal(*values)
    models, own = (any(each) for each in zip(*job.gather(*random), strict=True))
    if models:
        return False, "gradient: not compared, the model's energies of the same pairs change, though dropout is off"
    return (None, "gradient: not compared, the loss draws random numbers that depend on the rank") if own else None


def _backward(job: Job, loss: Loss, model: nn.Module, turn: int, micro: int) -> None:
    if loss.replicated:
        replicate(model)
    with SameDraws(turn):
        value = loss(model, batch_of(job, job.rank, turn))
    torch.autograd.backward(value / micro)


def _flat_gradient(model: nn.Module) -> Tensor:
    gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in model.parameters()]
    return torch.cat([gradient.detach().flatten().double() for gradient in gradients])


# 2. Drift


def check_drift(job: Job, loss: Loss, model: nn.Module) -> tuple[bool | None, str]:
    model.train()
    optimizer, turn = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0), itertools.count(100)
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
    if not loss.replicated:
        return None, f"{line}; the script has to average the gradients itself"
    return drift == 0 and moved > 0, line


def _flat_weights(model: nn.Module) -> Tensor:
    return torch.cat([p.detach().flatten().double() for p in model.parameters()])


# 3. Energies


@torch.no_grad()
def check_energies(job: Job, loss: Loss, model: nn.Module) -> tuple[bool | None, str]:
    if not (FOLDER / "scoring.py").exists() or loss.function is original_loss:
        return None, "energies: the model's own, pair by pair"
    model.eval()
    scoring = sibling("scoring")
    batches = [batch_of(job, rank, 0) for rank in range(job.world)]
    batch = batches[job.rank]
    shared = torch.cat([each.a for each in batches])  # [N, H, Da]
    own = torch.stack(batch.layers, dim=1)  # [B, M, H, Da]
    figures = [_difference(job, scoring.energy_matrix, model, batch, actions) for actions in (own, shared)]
    error, spread, verdict = zip(*itertools.chain(*(job.gather(*each) for each in figures)), strict=True)
    materialised = ", ".join(scoring.materialised(model)) or "nothing"
    figure = f"difference {max(error):.1e} where candidates differ by {max(spread):.1e}"
    return all(verdict), f"energies against plain pairs, materialised {materialised}: {figure}"


def _difference(
    job: Job, energy_matrix: Callable[..., Tensor], model: nn.Module, batch: Batch, actions: Tensor
) -> tuple[float, float, float]:
    """The largest difference, how far the energies lie apart, and whether the one is small against the other.

    Rounding of the energies themselves is allowed.
    """
    found = energy_matrix(model, batch.h, actions, batch.mask)
    expected = pairwise_energies(model, batch.h, actions, batch.mask)
    error, spread = (found - expected).abs().max(), expected.max() - expected.min()
    rounding = (64 if job.dtype in _EXACT else 8) * torch.finfo(job.dtype).eps * expected.abs().max()
    allowed = torch.maximum(_EXACT.get(job.dtype, 0.0) * spread, rounding)
    return float(error), float(spread), float(error <= allowed and spread > 0)


# 4. Cost


def measure_cost(job: Job, loss: Loss, model: nn.Module) -> tuple[None, str]:
    batch, ranks = batch_of(job, job.rank, 0), training_ranks()
    before, as_before = copy.deepcopy(model).train(), Loss(original_loss, {"tau": loss.given.get("tau", 1.0)}, False)
    model.train()
    keep_equal = replicate if loss.replicated else lambda same: same
    back: Callable[[Tensor], None] = torch.autograd.backward
    steps: dict[str, Callable[[], Any]] = {
        "positives only": lambda: back(energies_of(before, batch.h, batch.a, batch.mask).sum()),
        "the local loss as before": lambda: back(as_before(before, batch)),
        "this one": lambda: back(loss(keep_equal(model), batch)),
    }
    shown = list(steps)
    if loss.replicated:
        steps["averaging gradients"] = lambda: average_gradients(model)
    if loss.spans_ranks:
        steps["the exchange"] = lambda: exchange(ranks, batch.h, batch.a, batch.mask, "")
    for name in shown:
        steps[name]()  # gradients exist from here on
    memory = [_bytes(job, steps[name], before if name != "this one" else model) for name in shown]
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    job.gather(0)
    for _ in range(job.options.steps):
        for name, step in steps.items():
            slowest = max(job.gather(_seconds(job, step)))  # what the job waits for; and all begin the next together
            seconds[name] += slowest
    median = {name: statistics.median(each) for name, each in seconds.items()}
    unit = median[shown[0]]
    ratios = [
        f"{name} {median[name] / unit:.2f} / {size / memory[0]:.2f}" for name, size in zip(shown, memory, strict=True)
    ]
    alone = [f"{name} {median[name] / unit:.2f}" for name in steps if name not in shown]
    line = f"a step's time / memory, in units of the first: {', '.join(ratios)}"
    line += f"; time alone: {', '.join(alone)}" if alone else ""
    line += f" (unit {1000 * unit:.3g} ms / {memory[0] / 1e6:.3g} MB)"
    return None, line if job.device.type != "cpu" else f"{line}; small contexts on a CPU say little of a step on GPUs"


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

"""The harness of the tests of ``replicate``: a loop is written once, and run on ranks and in one process.

On ranks it has its share of the rows, weights of its own, the loss over all ranks and the line; in one process it has
all rows and the plain loss. Left out, the line must be missed.
"""

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import energy_zoo as zoo
import plain_reference as plain
import pytest
import torch
from energy_losses import ranks as ranks_module
from energy_losses.global_infonce import distributed_energy_inbatch_swap_infonce as global_loss
from energy_losses.ranks import broadcast_parameters, replicate
from energy_zoo import EXACT
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

STEPS = 4
UNEVEN, EVEN = [3, 2, 1, 3], [2, 2, 2, 2]


@dataclass
class Place:
    """Where a loop runs: a rank of several, or one process with all rows."""

    rows: list[int]
    rank: int = 0
    world: int = 1
    line: Callable[[nn.Module], nn.Module] = replicate
    local: bool = False  # a mistake: negatives of the rank's own batch only

    def batch(self, step: int) -> plain.Batch:
        whole = plain.make_batch(sum(self.rows), seed=step)
        return whole if self.world == 1 else plain.share(whole, self.rows, self.rank)

    def loss(self, model: nn.Module, batch: plain.Batch) -> Tensor:
        """What stands in the script: the line, and the call."""
        if self.world == 1:
            return plain.global_loss(model, batch)[0]
        self.line(model)
        return (plain.global_loss(model, batch) if self.local else global_loss(model, batch.h, batch.a, batch.mask))[0]

    def build(self, kind: Any = zoo.UNDER_TEST, seed: int = 0, **options: Any) -> Any:
        """A model as a script builds it that seeds nothing."""
        return zoo.build(kind, seed=seed + 10 * self.rank, **options)

    def wrap(self, model: nn.Module, **options: Any) -> nn.Module:
        return model if self.world == 1 else DistributedDataParallel(model, **options)


def optimizer_of(*models: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.AdamW([p for m in models for p in m.parameters()], lr=1e-2, weight_decay=0.1)


def clipped_step(optimizer: torch.optim.Optimizer, *models: nn.Module) -> None:
    for model in models:
        nn.utils.clip_grad_norm_(model.parameters(), 0.05)
    optimizer.step()
    optimizer.zero_grad()


def weights(*models: nn.Module) -> list[Tensor]:
    return [p.detach().clone() for model in models for p in model.parameters()]


def plainly(place: Place, micro: int = 1, kind: Any = zoo.UNDER_TEST) -> list[Tensor]:
    model = place.build(kind)
    optimizer = optimizer_of(model)
    for step in range(STEPS * micro):
        loss = place.loss(model, place.batch(step)) / micro
        if step % micro == 0:
            optimizer.zero_grad()
        loss.backward()
        if step % micro == micro - 1:
            clipped_step(optimizer, model)
    return weights(model)


def on_a_rank(rank: int, world: int, module: str, name: str, rows: list[int], mistake: str = "") -> list[Tensor]:
    place = Place(rows, rank, world, local=mistake == "local negatives")
    if mistake == "no line":
        place.line = nn.Module.train
    if mistake == "no averaging":
        place.line = broadcast_parameters
    with pytest.MonkeyPatch.context() as patch:
        if mistake == "no broadcast":
            patch.setattr(ranks_module, "broadcast_parameters", lambda *_, **__: None)
        return getattr(importlib.import_module(module), name)(place)  # type: ignore[no-any-return]


def run(pool: Any, loop: Callable[..., list[Tensor]], rows: list[int], mistake: str = "") -> list[list[Tensor]]:
    """The weights of each rank after a loop, with one mistake if asked for."""
    return pool.run(4, on_a_rank, loop.__module__, loop.__name__, rows, mistake)  # type: ignore[no-any-return]


def assert_one_process(pool: Any, loop: Callable[..., list[Tensor]], rows: list[int], mistake: str = "no line") -> None:
    """All ranks end with the same weights, those of one process; with the mistake they do not."""
    expected = loop(Place(rows))
    first, *others = run(pool, loop, rows)
    assert plain.distance(first, expected) < EXACT
    assert all(plain.distance(other, first) == 0 for other in others)
    for wrong in run(pool, loop, rows, mistake)[1:]:
        assert plain.distance(wrong, expected) > 1e-3

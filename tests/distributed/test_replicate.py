"""One line keeps the ranks one model: loops of every kind against one process."""

from collections.abc import Callable
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

STEPS, ROWS = 3, [3, 2, 1, 3]
Weights = list[Tensor]


def weights(model: nn.Module) -> Weights:
    return [p.detach().clone() for p in model.parameters()]


def loop(model: nn.Module, batches: Callable[[int], plain.Batch], micro: int, before: Any, loss: Any) -> Weights:
    """Clipped AdamW steps, as a script would write them; ``before`` stands right before the loss's call."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0.1)
    for step in range(STEPS * micro):
        batch = batches(step)
        before(model)
        (loss(model, batch.h, batch.a, batch.mask)[0] / micro).backward()
        if step % micro == micro - 1:
            nn.utils.clip_grad_norm_(model.parameters(), 0.05)
            optimizer.step()
            optimizer.zero_grad()
    return weights(model)


def on_a_rank(rank: int, world: int, micro: int, mistake: str = "") -> Weights:
    def batches(step: int) -> plain.Batch:
        return plain.share(plain.make_batch(sum(ROWS), seed=step), ROWS, rank)

    before: dict[str, Any] = {"": replicate, "no replicate": lambda m: m, "no averaging": broadcast_parameters}
    with pytest.MonkeyPatch.context() as patch:
        if mistake == "no broadcast":
            patch.setattr(ranks_module, "broadcast_parameters", lambda *_, **__: None)
            mistake = ""
        if mistake == "local negatives":
            local = lambda m, h, a, mask: plain.global_loss(m, plain.Batch(h, a, mask))  # noqa: E731
            return loop(zoo.build(seed=rank), batches, micro, replicate, local)
        return loop(zoo.build(seed=rank), batches, micro, before[mistake], global_loss)


def in_one_process(micro: int) -> Weights:
    def batches(step: int) -> plain.Batch:
        return plain.make_batch(sum(ROWS), seed=step)

    def loss(model: nn.Module, h: Tensor, a: Tensor, mask: Tensor | None) -> Any:
        return plain.global_loss(model, plain.Batch(h, a, mask))

    return loop(zoo.build(seed=0), batches, micro, lambda m: m, loss)


@pytest.mark.parametrize("micro", [1, 3])
def test_a_loop_with_the_line_is_one_process(pool: Any, micro: int) -> None:
    expected = in_one_process(micro)
    found = pool.run(4, on_a_rank, micro)
    assert plain.distance(found[0], expected) < EXACT
    assert all(plain.distance(other, found[0]) == 0 for other in found)


@pytest.mark.parametrize("mistake", ["no replicate", "no averaging", "no broadcast", "local negatives"])
def test_a_loop_with_a_mistake_is_not(pool: Any, mistake: str) -> None:
    expected = in_one_process(1)
    assert max(plain.distance(found, expected) for found in pool.run(4, on_a_rank, 1, mistake)) > 1e-3

"""The global loss with a queue of earlier actions."""

import copy
import gc
import weakref
from typing import Any

import energy_zoo as zoo
import plain_reference as plain
import pytest
import torch
from energy_losses import queue_infonce
from energy_losses.global_infonce import distributed_energy_inbatch_swap_infonce as global_loss
from energy_losses.queue_infonce import queued_energy_infonce_loss as queue_loss
from energy_losses.ranks import average_gradients
from energy_zoo import EXACT
from torch import Tensor, nn

STEPS = 20


def train(rank: int, world: int, rows: list[int], size: int) -> list[tuple[list[Tensor | None], Tensor]]:
    model, wrapped = zoo.build(), []
    for i in range(STEPS):
        batch = plain.share(plain.make_batch(sum(rows), seed=i), rows, rank)
        model.zero_grad()
        loss, *_ = queue_loss(model, batch.h, batch.a, batch.mask, 0.5, world, size)
        loss.backward()
        average_gradients(model)
        with torch.no_grad():  # validation in between leaves no trace
            queue_loss(model, batch.h, batch.a, batch.mask, 0.5, world, size)
        wrapped.append((plain.gradients(model), queue_infonce._queues[model].clone()))
        change(model)
    return wrapped


@torch.no_grad()
def change(model: nn.Module) -> None:
    """Other weights for the next step, the same wherever it is taken: stale energies would show, rounding does not."""
    for parameter in model.parameters():
        parameter.copy_(parameter.roll(1, dims=-1))


@pytest.mark.parametrize(("rows", "size"), [([3, 2], 7), ([2, 2], 4), ([1, 0, 2, 1], 30), ([4], 3), ([3], 64)])
def test_equals_a_plain_list_over_many_steps(pool: Any, rows: list[int], size: int) -> None:
    results = pool.run(len(rows), train, rows, size)
    model, queue = zoo.build(), []
    for i in range(STEPS):
        batch = plain.make_batch(sum(rows), seed=i)
        candidates = torch.stack([*batch.a, *queue])
        loss, *_ = plain.infonce(plain.energies(model, batch, candidates), list(range(sum(rows))), 0.5)
        expected = plain.reference_gradients(model, loss)
        if queue:
            without = plain.reference_gradients(model, plain.global_loss(model, batch)[0])
            assert plain.distance(without, expected) > 1e-3
        queue = [*queue, *batch.a][-size:]
        for result in results:
            gradients, held = result[i]
            assert plain.distance(gradients, expected) < EXACT
            assert torch.equal(held, torch.stack(queue))
        change(model)


def test_the_queue_belongs_to_the_model_and_is_not_saved() -> None:
    model, batch = zoo.build(), plain.make_batch(3)
    names = list(model.state_dict())
    compiled = torch.compile(model, backend="eager")
    queue_loss(model, batch.h, batch.a, batch.mask)
    queue_loss(compiled, batch.h, batch.a, batch.mask)
    assert len(queue_infonce._queues[model]) == 6
    assert list(model.state_dict()) == names
    assert copy.deepcopy(model) not in queue_infonce._queues
    held, gone = weakref.ref(queue_infonce._queues[model]), weakref.ref(model)
    del model, compiled
    torch._dynamo.reset()
    gc.collect()
    assert gone() is None
    assert held() is None


def test_the_queue_holds_no_graph() -> None:
    model, batch = zoo.build(), plain.make_batch(3)
    actions = batch.a.clone().requires_grad_()
    for _ in range(2):
        queue_loss(model, batch.h, actions, batch.mask)[0].backward()
    assert not queue_infonce._queues[model].requires_grad


def test_gradients_disabled_means_local_rows_only() -> None:
    model, batch = zoo.build(), plain.make_batch(3)
    queue_loss(model, batch.h, batch.a, batch.mask)
    with torch.no_grad():
        found = queue_loss(model, batch.h, batch.a, batch.mask)
        expected = global_loss(model, batch.h, batch.a, batch.mask)
    assert found == expected
    assert len(queue_infonce._queues[model]) == 3


def test_min_distance_reaches_the_queue() -> None:
    model, batch = zoo.build(), plain.make_batch(3)
    queue_loss(model, batch.h, batch.a + 0.001, batch.mask)
    found = queue_loss(model, batch.h, batch.a, batch.mask, min_distance=0.01)
    candidates = torch.cat([batch.a, batch.a + 0.001])
    kept = ~torch.eye(3, dtype=torch.bool).repeat(1, 2)
    expected = plain.infonce(plain.energies(model, batch, candidates), [0, 1, 2], 0.5, kept)
    assert all(abs(f - e) < EXACT for f, e in zip(found, expected, strict=True))


def test_queue_size_must_be_positive() -> None:
    batch = plain.make_batch(2)
    with pytest.raises(ValueError, match="queue_size"):
        queue_loss(zoo.build(), batch.h, batch.a, batch.mask, queue_size=0)

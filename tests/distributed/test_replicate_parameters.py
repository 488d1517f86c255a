"""One line keeps the ranks one model, whatever becomes of its parameters."""

import copy
import io
from collections.abc import Callable
from typing import Any

import pytest
import torch
from loops import STEPS, UNEVEN, Place, assert_one_process, clipped_step, optimizer_of, weights
from torch import Tensor, nn


def thawed_later(place: Place) -> list[Tensor]:
    model = place.build()
    optimizer = optimizer_of(model)
    frozen = list(model.parameters())[::2]
    for step in range(STEPS):
        for parameter in frozen:
            parameter.requires_grad_(step >= 2)
        place.loss(model, place.batch(step)).backward()
        clipped_step(optimizer, model)
    return weights(model)


def added_later(place: Place) -> list[Tensor]:
    """A part of the model is made after some steps, from the rank's own numbers."""
    model = place.build()
    optimizer = optimizer_of(model)
    for step in range(STEPS):
        if step == 2:
            head, model.head = model.head, nn.Sequential(model.head, nn.Linear(1, 1).double())
            nn.init.constant_(model.head[1].weight, 1.0 + place.rank)
            nn.init.constant_(model.head[1].bias, float(place.rank))
            optimizer = optimizer_of(model)
            assert head is model.head[0]
        place.loss(model, place.batch(step)).backward()
        clipped_step(optimizer, model)
    return weights(model)


def unused(place: Place) -> list[Tensor]:
    """One parameter is reached on rank 1 only, where it counts as a quarter; another on none, and must not decay."""
    model = place.build()
    model.some = nn.Parameter(torch.full((3,), 2.0 + place.rank, dtype=torch.float64))
    model.none = nn.Parameter(torch.full((2,), 5.0 + place.rank, dtype=torch.float64))
    optimizer = optimizer_of(model)
    for step in range(STEPS):
        loss = place.loss(model, place.batch(step))
        if place.rank == 1 or place.world == 1:
            loss = loss + model.some.square().sum() / (1 if place.world > 1 else 4)
        loss.backward()
        assert model.none.grad is None
        clipped_step(optimizer, model)
    return weights(model)


def averaged_weights(place: Place) -> list[Tensor]:
    """A copy holds a moving average; it scores, and is not trained."""
    model = place.build()
    optimizer = optimizer_of(model)
    if place.world > 1:
        place.line(model)
    average = copy.deepcopy(model)
    for step in range(STEPS):
        place.loss(model, place.batch(step)).backward()
        clipped_step(optimizer, model)
        with torch.no_grad():
            for mine, new in zip(average.parameters(), model.parameters(), strict=True):
                mine.lerp_(new, 0.3)
            for i in range(place.rank):
                place.loss(average, place.batch(100 + i))
    return weights(model, average)


def trained_copy(place: Place) -> list[Tensor]:
    """From the second step on, a copy made after the first is trained in the place of the model."""
    model = place.build()
    optimizer = optimizer_of(model)
    for step in range(STEPS):
        place.loss(model, place.batch(step)).backward()
        clipped_step(optimizer, model)
        if step == 0:
            model = copy.deepcopy(model)
            optimizer = optimizer_of(model)
    return weights(model)


def saved_and_loaded(place: Place) -> list[Tensor]:
    """Saved as a state and whole, trained further, and taken back: into the model, as new tensors, and as a module."""
    model = place.build()
    optimizer = optimizer_of(model)
    state, whole = io.BytesIO(), io.BytesIO()
    for step in range(3 * STEPS):
        place.loss(model, place.batch(step)).backward()
        clipped_step(optimizer, model)
        if step == 1:
            torch.save(model.state_dict(), state)
            torch.save(model, whole)
        if step in (3, 5):
            state.seek(0)
            model.load_state_dict(torch.load(state), assign=step == 5)
            optimizer = optimizer_of(model)
        if step == 7:
            whole.seek(0)
            model = torch.load(whole, weights_only=False)
            optimizer = optimizer_of(model)
    return weights(model)


LOOPS: dict[Callable[..., list[Tensor]], list[int]] = {
    thawed_later: UNEVEN,
    added_later: UNEVEN,
    unused: UNEVEN,
    averaged_weights: UNEVEN,
    trained_copy: UNEVEN,
    saved_and_loaded: UNEVEN,
}


@pytest.mark.parametrize("loop", LOOPS, ids=lambda loop: loop.__name__)
def test_a_loop_with_the_line_is_one_process(pool: Any, loop: Callable[..., list[Tensor]]) -> None:
    assert_one_process(pool, loop, LOOPS[loop])

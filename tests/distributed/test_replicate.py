"""One line keeps the ranks one model, whatever the loop around the loss does."""

import math
from collections.abc import Callable
from typing import Any

import plain_reference as plain
import pytest
import torch
from loops import EVEN, STEPS, UNEVEN, Place, assert_one_process, clipped_step, optimizer_of, plainly, run, weights
from torch import Tensor, nn


def accumulated(place: Place) -> list[Tensor]:
    return plainly(place, micro=3)


def margin(model: nn.Module, batch: plain.Batch) -> Tensor:
    """A loss of the user's own."""
    return (1 + model(batch.h, batch.a, batch.mask) - model(batch.h, -batch.a, batch.mask)).relu().mean()


def two_losses(place: Place) -> list[Tensor]:
    model = place.build()
    optimizer = optimizer_of(model)
    for step in range(STEPS):
        batch = place.batch(step)
        loss = place.loss(model, batch) + 0.3 * margin(model, batch)
        loss.backward(retain_graph=True)
        (0.1 * loss).backward()
        (0.2 * margin(model, batch)).backward()
        clipped_step(optimizer, model)
    return weights(model)


def two_models(place: Place) -> list[Tensor]:
    """One backward pass for both; then one each."""
    first, second = place.build(seed=1), place.build(seed=2)
    optimizer = optimizer_of(first, second)
    for step in range(STEPS):
        batch = place.batch(step)
        losses = [place.loss(first, batch), place.loss(second, batch)]
        if step % 2:
            sum(losses).backward()
        else:
            losses[1].backward()
            losses[0].backward()
        clipped_step(optimizer, first, second)
    return weights(first, second)


def validated_first(place: Place) -> list[Tensor]:
    model = place.build()
    optimizer = optimizer_of(model)
    for step in range(STEPS):
        with torch.no_grad():
            for i in range(place.rank):
                place.loss(model, place.batch(100 + i))
        place.loss(model, place.batch(step)).backward()
        clipped_step(optimizer, model)
    return weights(model)


def overflow_checked_by_hand(place: Place) -> list[Tensor]:
    """A loss scale, halved and the step skipped where a gradient is not finite; at step 1 that is rank 1's doing."""
    model, scale = place.build(), 1024.0
    optimizer = optimizer_of(model)
    for step in range(STEPS):
        loss = scale * place.loss(model, place.batch(step))
        (loss * math.inf if step == 1 and (place.rank == 1 or place.world == 1) else loss).backward()
        if all(bool(p.grad.isfinite().all()) for p in model.parameters()):
            for parameter in model.parameters():
                parameter.grad /= scale
            clipped_step(optimizer, model)
        else:
            scale /= 2
            optimizer.zero_grad()
    return [*weights(model), torch.tensor(scale)]


def with_a_scaler(place: Place) -> list[Tensor]:
    model, scaler = place.build(), torch.amp.GradScaler("cpu", init_scale=1024.0)
    optimizer = optimizer_of(model)
    for step in range(STEPS):
        loss = scaler.scale(place.loss(model, place.batch(step)))
        (loss * math.inf if step == 1 and (place.rank == 1 or place.world == 1) else loss).backward()
        scaler.unscale_(optimizer)
        nn.utils.clip_grad_norm_(model.parameters(), 0.05)
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()
    return [*weights(model), torch.tensor(scaler.get_scale())]


def failing_inside(place: Place) -> list[Tensor]:
    """The backward pass raises on every rank, when some gradients have arrived; the user goes on."""
    model = place.build()
    optimizer = optimizer_of(model)
    for step in range(STEPS):
        batch = place.batch(step)
        if step == 1:
            h = batch.h.clone().requires_grad_()
            h.register_hook(interrupt)
            with pytest.raises(InterruptedError):
                place.loss(model, plain.Batch(h, batch.a, batch.mask)).backward()
            optimizer.zero_grad()
        else:
            place.loss(model, batch).backward()
            clipped_step(optimizer, model)
    return weights(model)


def interrupt(_: Tensor) -> None:
    raise InterruptedError


def looked_into(place: Place) -> list[Tensor]:
    """One rank looks at gradients of its own, by inputs and by parameters, which sends nothing."""
    model = place.build()
    optimizer = optimizer_of(model)
    for step in range(STEPS):
        batch = place.batch(step)
        h = batch.h.clone().requires_grad_()
        loss = place.loss(model, plain.Batch(h, batch.a, batch.mask))
        if place.rank == 1:
            torch.autograd.grad(loss, h, retain_graph=True)
            torch.autograd.grad(loss, list(model.parameters()), retain_graph=True)
        loss.backward()
        clipped_step(optimizer, model)
    return weights(model)


LOOPS: dict[Callable[..., list[Tensor]], list[int]] = {
    plainly: UNEVEN,
    accumulated: UNEVEN,
    two_losses: EVEN,
    two_models: UNEVEN,
    validated_first: UNEVEN,
    overflow_checked_by_hand: UNEVEN,
    failing_inside: UNEVEN,
    looked_into: UNEVEN,
}
if hasattr(torch.amp, "GradScaler"):  # of CPU tensors, since torch 2.3
    LOOPS[with_a_scaler] = UNEVEN


@pytest.mark.parametrize("loop", LOOPS, ids=lambda loop: loop.__name__)
def test_a_loop_with_the_line_is_one_process(pool: Any, loop: Callable[..., list[Tensor]]) -> None:
    assert_one_process(pool, loop, LOOPS[loop])


@pytest.mark.parametrize("loop", [plainly, accumulated, two_models], ids=lambda loop: loop.__name__)
def test_a_rank_without_rows_takes_part(pool: Any, loop: Callable[..., list[Tensor]]) -> None:
    rows = [3, 0, 1, 3]
    assert_one_process(pool, loop, rows)
    assert_one_process(pool, loop, rows, mistake="no averaging")


@pytest.mark.parametrize("mistake", ["no averaging", "no broadcast", "local negatives"])
def test_a_loop_with_half_of_it_is_not(pool: Any, mistake: str) -> None:
    expected = plainly(Place(UNEVEN))
    assert max(plain.distance(found, expected) for found in run(pool, plainly, UNEVEN, mistake)) > 1e-3

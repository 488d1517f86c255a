"""What every loss promises, whatever its negatives are."""

import contextlib
from functools import partial
from typing import Any

import energy_zoo as zoo
import every_loss
import plain_reference as plain
import pytest
import torch
from energy_losses import scoring
from energy_losses.ranks import average_gradients, broadcast_parameters
from energy_zoo import EXACT
from gloo_pool import forbid_collectives
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

# As they are, and with settings that change what a loss does.
LOSSES = {
    **every_loss.LOSSES,
    "queue, full": partial(every_loss.LOSSES["queue"], queue_size=5),
    "adaptive, in-batch": partial(every_loss.LOSSES["adaptive"], local_batch_size=8, tau=0.5),
}
each = pytest.mark.parametrize("name", LOSSES)


def train(rank: int, world: int, name: str, context: str = "", wrapped: bool = False) -> list[Tensor | None]:
    """Two training steps; amid the first, in a context without gradients, another number of batches on each rank."""
    model, loss = zoo.build(), LOSSES[name]
    model = DistributedDataParallel(model) if wrapped else model
    first = loss(model, plain.make_batch(3, seed=rank))[0]
    if context:
        with pytest.MonkeyPatch.context() as patch, getattr(torch, context)():
            forbid_collectives(patch)
            for i in range(rank):
                results = loss(model, plain.make_batch(2, seed=100 * rank + i))
                assert all(torch.isfinite(x) and not x.requires_grad for x in results)
    first.backward()
    loss(model, plain.make_batch(3, seed=rank + world))[0].backward()
    average_gradients(model)
    return plain.gradients(model)


@pytest.mark.parametrize(("context", "wrapped"), [("no_grad", False), ("inference_mode", False), ("no_grad", True)])
@each
def test_validation_issues_no_collective_and_leaves_no_trace(pool: Any, name: str, context: str, wrapped: bool) -> None:
    results, without = pool.run(4, train, name, context, wrapped), pool.run(4, train, name)
    for found, expected in zip(results, without, strict=True):
        assert plain.distance(found, expected) < EXACT


def step(rank: int, world: int, name: str, rows: list[int], change: str = "") -> list[Tensor | None]:
    """Averaged gradients of a step on the loss and its two energies, with a change that should not matter."""
    model = zoo.build()
    batch = plain.share(plain.make_batch(sum(rows)), rows, rank)
    if change == "padding":
        batch = padded(batch, by=rank + 1)
    elif change == "padding that counts":
        batch = padded(batch, by=rank + 1)
        batch.mask[:, -1] = False
    elif change == "strides":
        batch = plain.Batch(
            batch.h.transpose(0, 2).contiguous().transpose(0, 2),
            torch.cat([batch.a, batch.a], dim=-1)[..., : batch.a.shape[-1]],
            batch.mask.t().contiguous().t(),
        )
    elif change == "actions with gradients":
        batch = plain.Batch(batch.h, batch.a.clone().requires_grad_(), batch.mask)
    scored = DistributedDataParallel(model) if change == "DDP" else model
    if change == "compiled":
        scored = torch.compile(model, backend="eager")
    broadcast_parameters(scored)
    with pytest.MonkeyPatch.context() as patch:
        if change == "small chunks":
            patch.setattr(scoring, "_STEPS_PER_PASS", 2 * max(rows) * batch.a.shape[1])
        for _ in range(2):  # DDP looks back at the first step when the second begins
            model.zero_grad()
            loss, e_pos, e_neg = LOSSES[name](scored, batch)
            (loss + 0.2 * e_pos - 0.1 * e_neg).backward()
    average_gradients(scored)
    return plain.gradients(model)


def padded(batch: plain.Batch, by: int) -> plain.Batch:
    """The same batch with further positions, of some content, that every row masks."""
    h = torch.cat([batch.h, torch.full_like(batch.h[:, :1], 7.0).expand(-1, by, -1)], dim=1)
    return plain.Batch(h, batch.a, nn.functional.pad(batch.mask, (0, by), value=True))


@pytest.mark.parametrize("change", ["padding", "strides", "actions with gradients", "DDP", "compiled", "small chunks"])
@each
def test_changes_that_do_not_matter(pool: Any, name: str, change: str) -> None:
    rows = [3, 2, 3, 1]
    expected = pool.run(4, step, name, rows)
    for found, same in zip(pool.run(4, step, name, rows, change), expected, strict=True):
        assert plain.distance(found, same) < EXACT


@each
def test_padding_that_counts_would_show(pool: Any, name: str) -> None:
    rows = [3, 2, 3, 1]
    expected = pool.run(4, step, name, rows)
    for found, other in zip(pool.run(4, step, name, rows, "padding that counts"), expected, strict=True):
        assert plain.distance(found, other) > 1e-3


@each
def test_a_rank_without_rows_takes_part(pool: Any, name: str) -> None:
    for change in ("", "DDP"):
        first, *others = pool.run(4, step, name, [2, 0, 3, 0], change)
        assert all(gradient is not None and torch.isfinite(gradient).all() for gradient in first)
        assert all(plain.distance(other, first) == 0 for other in others)


class NarrowEnergy(zoo.CrossEnergy):
    """Needs a mask, and contexts of some length."""

    def forward(self, h: Tensor, a: Tensor, pad_mask: Tensor | None = None) -> Any:
        assert pad_mask is not None
        h = h.masked_fill(pad_mask[..., None], 1.0)
        return super().forward(h / h.norm(dim=-1, keepdim=True), a, pad_mask)


def without_rows(rank: int, world: int, name: str) -> list[Tensor | None]:
    model = zoo.build(NarrowEnergy)
    batch = plain.share(plain.make_batch(5), [2, 0, 3], rank)
    LOSSES[name](model, batch)[0].backward()
    average_gradients(model)
    return plain.gradients(model)


@each
def test_a_made_up_row_suits_a_model_that_is_narrow(pool: Any, name: str) -> None:
    for gradients in pool.run(3, without_rows, name):
        assert all(torch.isfinite(gradient).all() for gradient in gradients)


def skip_the_first_batch(rank: int, world: int, name: str) -> list[Tensor | None]:
    """The model fails on one rank at the first step, and the user goes on."""
    model = zoo.build()
    for seed in range(3):
        batch = plain.make_batch(3, seed=world * seed + rank)
        with contextlib.ExitStack() as stack:
            if seed == 0 and rank == 1:
                stack.enter_context(pytest.raises(ArithmeticError))
                stack.callback(model.register_forward_pre_hook(fail).remove)
            LOSSES[name](model, batch)[0].backward()
        average_gradients(model)
    return plain.gradients(model)


def fail(*_: Any) -> None:
    raise ArithmeticError


@each
def test_a_rank_whose_model_fails_may_go_on(pool: Any, name: str) -> None:
    first, *others = pool.run(3, skip_the_first_batch, name)
    assert all(plain.distance(other, first) == 0 for other in others)


@pytest.mark.parametrize("name", ["global", "adaptive, in-batch"])
def test_both_energies_are_attached_to_the_graph(pool: Any, name: str) -> None:
    rows = [3, 3, 3, 3]
    model = zoo.build()
    loss, e_pos, e_neg = plain.global_loss(model, plain.make_batch(sum(rows)))
    expected = plain.reference_gradients(model, loss + 0.2 * e_pos - 0.1 * e_neg)
    detached = plain.reference_gradients(model, loss)
    for found in pool.run(4, step, name, rows):
        assert plain.distance(found, expected) < EXACT
        assert plain.distance(found, detached) > 1e-3

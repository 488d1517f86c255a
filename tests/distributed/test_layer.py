"""The loss against a rank's own batch and made negatives."""

import itertools
from typing import Any

import energy_zoo as zoo
import plain_reference as plain
import pytest
import torch
from energy_losses.layer_infonce import layer_based_energy_infonce_loss as layer_loss
from energy_losses.layer_infonce import make_negatives
from energy_losses.ranks import average_gradients, replicate
from energy_zoo import EXACT
from gloo_pool import forbid_collectives
from torch import Tensor, nn


def make_layers(batch: plain.Batch, count: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(7)
    return [torch.rand(batch.a.shape, generator=generator, dtype=torch.float64).to(batch.a) for _ in range(count)]


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(11)


@pytest.mark.parametrize(
    ("layers", "used"),
    [(0, []), (1, []), (2, [0]), (3, [0, 1]), (4, [0, 1, 2]), (5, [0, 1, 2, 3]), (33, [0, 11, 16, 31])],
)
def test_layers_that_serve_as_negatives(layers: int, used: list[int]) -> None:
    batch = plain.make_batch(3)
    actions = make_layers(batch, layers)
    negatives = make_negatives(batch.a, actions, 12)
    for k, index in enumerate(used):
        assert torch.equal(negatives[:, k], actions[index])
    assert not any(torch.equal(negatives[:, k], a) for a in actions for k in range(len(used), 12))


def test_recipe_after_the_layers() -> None:
    batch = plain.make_batch(400, steps=8, da=7)
    negatives = make_negatives(batch.a, make_layers(batch, 3), 9, seeded())
    away = negatives - batch.a[:, None]
    sigmas = [float(away[:, k].std()) for k in range(9)]
    expected = {2: 0.1, 3: 0.2, 4: 0.4, 6: 0.3 + 0.1 * 6, 7: 0.3 + 0.1 * 7, 8: 0.3 + 0.1 * 8}
    for k, sigma in expected.items():
        assert abs(sigmas[k] / sigma - 1) < 0.03
    assert negatives[:, 4].abs().max() > 1.0  # noise is not clamped
    reordered = negatives[:, 5]
    assert torch.equal(reordered.sort(dim=1).values, batch.a.sort(dim=1).values)
    assert not (reordered == batch.a).all(dim=2).all(dim=1).any()


def test_two_steps_are_always_swapped() -> None:
    batch = plain.make_batch(50, steps=2)
    assert torch.equal(make_negatives(batch.a, [], 4)[:, 3], batch.a.flip(1))


def test_one_step_has_no_other_order() -> None:
    batch = plain.make_batch(300, steps=1)
    negatives = make_negatives(batch.a, [], 5)
    assert abs(float((negatives[:, 3] - batch.a).std()) / 0.6 - 1) < 0.1


@pytest.mark.parametrize("count", [1, 5, 8, 12])
@pytest.mark.parametrize("layers", [1, 5])
@pytest.mark.parametrize("has_mask", [True, False])
def test_equals_explicitly_listed_candidates(count: int, layers: int, has_mask: bool) -> None:
    model, batch = zoo.build(), plain.make_batch(3)
    batch = batch if has_mask else plain.Batch(batch.h, batch.a, None)
    actions = make_layers(batch, layers)
    found = layer_loss(model, batch.h, batch.a, actions, batch.mask, 0.3, count, generator=seeded())
    made = make_negatives(batch.a, actions, count, seeded())
    expected, unweighted = (plain.hybrid_loss(model, batch, made, weight=weight) for weight in (0.25, 1.0))
    for f, e in zip(found, expected, strict=True):
        assert abs(f - e) < EXACT
        ours, theirs = (plain.reference_gradients(model, x) for x in (f, e))
        assert plain.distance(ours, theirs) < EXACT
    alone = made_alone(model, batch, made)
    for other in (unweighted[0], alone):
        ours, theirs = (plain.reference_gradients(model, x) for x in (found[0], other))
        assert plain.distance(ours, theirs) > 1e-3


def made_alone(model: nn.Module, batch: plain.Batch, made: Tensor) -> Tensor:
    listed = [[own, *others] for own, others in zip(batch.a, made, strict=True)]
    return plain.infonce(plain.energies(model, batch, listed), [0] * len(listed), 0.3)[0]


def test_one_row_meets_made_negatives_at_full_weight() -> None:
    model, batch = zoo.build(), plain.make_batch(1)
    loss, *_ = layer_loss(model, batch.h, batch.a, [], batch.mask, generator=seeded())
    assert abs(loss - made_alone(model, batch, make_negatives(batch.a, [], 8, seeded()))) < EXACT


def test_min_distance() -> None:
    model, batch = zoo.build(), plain.make_batch(3)
    near = [batch.a + 0.01, batch.a]
    found = layer_loss(model, batch.h, batch.a, near, batch.mask, 0.3, 3, min_distance=0.05, generator=seeded())
    negatives = make_negatives(batch.a, near, 3, seeded())
    expected = plain.hybrid_loss(model, batch, negatives[:, 1:])
    assert all(abs(f - e) < EXACT for f, e in zip(found, expected, strict=True))
    loss, _, e_neg = layer_loss(model, batch.h, batch.a, [], batch.mask, 0.3, 2, min_distance=9.0)
    assert loss == 0
    assert e_neg == 0


def test_layer_actions_receive_no_gradient() -> None:
    model, batch = zoo.build(), plain.make_batch(3)
    actions = [a.requires_grad_() for a in make_layers(batch, 5)]
    layer_loss(model, batch.h, batch.a, actions, batch.mask)[0].backward()
    assert all(a.grad is None for a in actions)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_dtypes_of_layers_and_expert_may_differ(dtype: torch.dtype) -> None:
    model, batch = zoo.build().float(), plain.make_batch(3)
    actions = [a.bfloat16() for a in make_layers(batch, 5)]
    loss, *_ = layer_loss(model, batch.h.to(dtype), batch.a.to(dtype), actions, batch.mask)
    assert loss.dtype == torch.float32
    assert torch.isfinite(loss)


def test_bad_input() -> None:
    model, batch = zoo.build(), plain.make_batch(3)
    with pytest.raises(ValueError, match=r"layer_actions\[0\] is \[3, 12\]"):
        layer_loss(model, batch.h, batch.a, [a.flatten(1) for a in make_layers(batch, 5)], batch.mask)
    with pytest.raises(ValueError, match="num_negatives"):
        layer_loss(model, batch.h, batch.a, [], batch.mask, num_negatives=0)
    with pytest.raises(ValueError, match="negative_weight"):
        layer_loss(model, batch.h, batch.a, [], batch.mask, negative_weight=float("inf"))
    with pytest.raises(ValueError, match=r"^energy loss: tau"):
        layer_loss(model, batch.h, batch.a, [], batch.mask, tau=-1)
    with pytest.raises(ValueError, match="batch sizes differ"):
        layer_loss(model, batch.h[:2], batch.a, [], batch.mask)


def step(rank: int, world: int, rows: list[int]) -> list[Tensor | None]:
    model = zoo.build()
    batch = plain.share(plain.make_batch(sum(rows)), rows, rank)
    with pytest.MonkeyPatch.context() as patch:
        forbid_collectives(patch)
        loss, *_ = layer_loss(model, batch.h, batch.a, [], batch.mask, generator=seeded())
    loss.backward()
    average_gradients(model)
    return plain.gradients(model)


@pytest.mark.parametrize("rows", [[3, 3], [3, 2], [2, 0]])
def test_nothing_travels_and_ranks_weigh_equally(pool: Any, rows: list[int]) -> None:
    model = zoo.build()
    ranks_equal = rows_equal = torch.zeros(())
    for rank, count in enumerate(rows):
        if count:
            batch = plain.share(plain.make_batch(sum(rows)), rows, rank)
            loss = plain.hybrid_loss(model, batch, make_negatives(batch.a, [], 8, seeded()))[0]
            ranks_equal, rows_equal = ranks_equal + loss / len(rows), rows_equal + loss * count / sum(rows)
    expected, other = (plain.reference_gradients(model, loss) for loss in (ranks_equal, rows_equal))
    for found in pool.run(len(rows), step, rows):
        assert plain.distance(found, expected) < EXACT
        assert (plain.distance(found, other) > 1e-3) == (len(set(rows)) > 1)


def skip_a_batch(rank: int, world: int, skipping: int, replicated: bool) -> list[Tensor | None]:
    """Two steps, in the first of which, where weights are compared, one rank has no batch to score."""
    model = zoo.build()
    for step in range(2):
        batch = plain.make_batch(3, seed=world * step + rank)
        if replicated:
            replicate(model)
        with pytest.MonkeyPatch.context() as patch:
            forbid_collectives(patch)
            if (rank, step) != (skipping, 0):
                loss, *_ = layer_loss(model, batch.h, batch.a, [], batch.mask, generator=seeded())
            else:
                loss = 0 * sum(p.sum() for p in model.parameters())
        if replicated or (rank, step) != (skipping, 0):  # without the line, it need not even have a backward pass
            loss.backward()
        if not replicated:
            average_gradients(model)
    return plain.gradients(model)


@pytest.mark.parametrize("replicated", [True, False])
def test_a_rank_that_skips_a_batch_keeps_no_one_waiting(pool: Any, replicated: bool) -> None:
    world, skipping, model = 3, 1, zoo.build()
    losses = []
    for step, rank in itertools.product(range(2), range(world)):
        batch = plain.make_batch(3, seed=world * step + rank)
        losses.append(plain.hybrid_loss(model, batch, make_negatives(batch.a, [], 8, seeded()))[0])
    everything = plain.reference_gradients(model, sum(losses) / world)
    expected = plain.reference_gradients(model, (sum(losses) - losses[skipping]) / world)
    for found in pool.run(world, skip_a_batch, skipping, replicated, seconds=20):
        assert plain.distance(found, expected) < EXACT
        assert plain.distance(found, everything) > 1e-3

"""All ranks' actions and made negatives in one softmax: real ranks against one process with the whole batch."""

import math
from typing import Any

import energy_zoo as zoo
import plain_reference as plain
import pytest
import torch
from energy_losses import layer_infonce
from energy_losses.hybrid_infonce import hybrid_energy_infonce_loss as hybrid_loss
from energy_losses.layer_infonce import layer_based_energy_infonce_loss as layer_loss
from energy_losses.layer_infonce import make_negatives
from energy_losses.metrics import latest_metrics
from energy_losses.ranks import average_gradients
from energy_zoo import EXACT
from torch import Tensor

MADE = 8


def whole(rows: list[int], layers: int = 5) -> tuple[plain.Batch, list[Tensor], Tensor]:
    """The batch of all ranks, its layers' actions, and the negatives made of both."""
    batch = plain.make_batch(sum(rows))
    generator = torch.Generator().manual_seed(7)
    actions = [torch.rand(batch.a.shape, generator=generator, dtype=torch.float64).to(batch.a) for _ in range(layers)]
    return batch, actions, make_negatives(batch.a, actions, MADE, generator)


def step(rank: int, world: int, rows: list[int], mistake: str = "") -> dict[str, Any]:
    """One training step's loss and averaged gradient, with one mistake if asked for."""
    model = zoo.build()
    batch, _, made = whole(rows)
    mine = slice(sum(rows[:rank]), sum(rows[: rank + 1]))
    injected = (made.roll(1, dims=0) if mistake == "made for other rows" else made)[mine]
    own, weight = plain.share(batch, rows, rank), 1.0 if mistake == "weight" else 0.25
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(layer_infonce, "make_negatives", lambda *_: injected)
        if mistake == "local negatives":
            loss, *_ = layer_loss(model, own.h, own.a, [], own.mask, 0.3, MADE)
        else:
            loss, *_ = hybrid_loss(model, own.h, own.a, [], own.mask, 0.3, world, MADE, negative_weight=weight)
    if mistake == "world size factor":
        loss = loss * world
    if mistake == "mean of means":
        loss = loss * sum(rows) / (rows[rank] * world)
    loss.backward()
    average_gradients(model)
    return {"loss": loss.detach(), "gradients": plain.gradients(model)}


def reference(rows: list[int]) -> tuple[Tensor, list[Tensor | None]]:
    model = zoo.build()
    batch, _, made = whole(rows)
    loss = plain.hybrid_loss(model, batch, made)[0]
    return loss.detach(), plain.reference_gradients(model, loss)


@pytest.mark.parametrize("rows", [[3, 3], [3] * 8, [3, 2], [3, 2, 1, 3], [2, 0], [0, 1, 4, 1]])
def test_equals_one_process(pool: Any, rows: list[int]) -> None:
    loss, expected = reference(rows)
    results = pool.run(len(rows), step, rows)
    for result in results:
        assert plain.distance(result["gradients"], expected) < EXACT
    assert abs(sum(r["loss"] for r in results) / len(rows) - loss) < EXACT


@pytest.mark.parametrize("mistake", ["weight", "made for other rows", "local negatives", "world size factor"])
def test_a_mistake_would_show(pool: Any, mistake: str) -> None:
    for rows in ([3] * 8, [3, 2, 1, 3]):
        _, expected = reference(rows)
        for result in pool.run(len(rows), step, rows, mistake):
            assert plain.distance(result["gradients"], expected) > 0.02


def test_a_mean_of_means_would_show(pool: Any) -> None:
    _, expected = reference([3, 2, 1, 3])
    for result in pool.run(4, step, [3, 2, 1, 3], "mean of means"):
        assert plain.distance(result["gradients"], expected) > 1e-3


def from_layers(rank: int, world: int, rows: list[int]) -> list[Tensor | None]:
    """Nothing injected: as many negatives as layers serve, so that none is drawn."""
    model = zoo.build()
    batch, layers, _ = whole(rows)
    own, mine = plain.share(batch, rows, rank), slice(sum(rows[:rank]), sum(rows[: rank + 1]))
    loss, *_ = hybrid_loss(model, own.h, own.a, [a[mine] for a in layers], own.mask, 0.07, world, 4)
    loss.backward()
    average_gradients(model)
    return plain.gradients(model)


def test_layers_alone_equal_one_process(pool: Any) -> None:
    rows, model = [3, 1, 2], zoo.build()
    batch, layers, made = whole(rows)
    assert all(torch.equal(made[:, k], layers[k]) for k in range(4))
    expected = plain.reference_gradients(model, plain.hybrid_loss(model, batch, made[:, :4], 0.07)[0])
    for found in pool.run(3, from_layers, rows):
        assert plain.distance(found, expected) < EXACT


@pytest.mark.parametrize("has_mask", [True, False])
def test_results_on_one_rank(has_mask: bool) -> None:
    model, (batch, layers, _) = zoo.build(), whole([4])
    batch = batch if has_mask else plain.Batch(batch.h, batch.a, None)
    seeds = (torch.Generator().manual_seed(3) for _ in range(2))
    found = hybrid_loss(model, batch.h, batch.a, layers, batch.mask, generator=next(seeds))
    expected = plain.hybrid_loss(model, batch, make_negatives(batch.a, layers, MADE, next(seeds)))
    for f, e in zip(found, expected, strict=True):
        assert abs(f - e) < EXACT
        ours, theirs = (plain.reference_gradients(model, x) for x in (f, e))
        assert plain.distance(ours, theirs) < EXACT


class Counting(zoo.CrossEnergy):
    """Counts its forward passes, and the pairs in each, as far as a model can see."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.pairs: list[int] = []

    def forward(self, h: Tensor, a: Tensor, pad_mask: Tensor | None = None) -> Any:
        self.pairs.append(len(a))
        return super().forward(h, a, pad_mask)


def count_passes(rank: int, world: int) -> list[int]:
    model, rows = zoo.build(Counting), [3] * world
    batch, layers, _ = whole(rows)
    own, mine = plain.share(batch, rows, rank), slice(3 * rank, 3 * rank + 3)
    loss, *_ = hybrid_loss(model, own.h, own.a, [a[mine] for a in layers], own.mask, 0.07, world, MADE)
    loss.backward()
    return model.pairs  # type: ignore[no-any-return]


def test_at_most_two_forward_passes_score_all(pool: Any) -> None:
    for pairs in pool.run(8, count_passes):
        assert len(pairs) <= 2
        assert sum(pairs) == 3 * (3 * 8 + MADE)


def test_min_distance_drops_near_ones_of_both_kinds() -> None:
    model, (batch, layers, _) = zoo.build(), whole([4])
    actions = batch.a.clone()
    actions[3] = actions[1] + 0.01
    near = [actions + 0.01, *layers[1:]]
    found = hybrid_loss(model, batch.h, actions, near, batch.mask, num_negatives=4, min_distance=0.1)
    listed = [[*actions, *own] for own in make_negatives(actions, near, 4)]
    away = actions[:, None] - torch.stack([torch.stack(row) for row in listed])
    kept = away.square().mean(dim=(2, 3)).sqrt() >= 0.1
    assert kept.sum() == 4 * 8 - 4 - 4 - 2
    table = plain.energies(model, batch, listed)
    expected = plain.infonce(table, list(range(4)), 0.3, kept, [1.0] * 4 + [0.25] * 4)
    assert all(abs(f - e) < EXACT for f, e in zip(found, expected, strict=True))


def bad_input(rank: int, world: int, what: str) -> str:
    batch, layers, _ = whole([2])
    options: dict[str, Any] = {}
    if rank == 1:
        options = {"count": {"num_negatives": 0}, "weight": {"negative_weight": 0.0}, "world": {"world_size": 7}}.get(
            what, {}
        )
        layers = [a[:, :-1] for a in layers] if what == "layers" else layers
    with pytest.raises(ValueError, match=r".") as caught:
        hybrid_loss(zoo.build(), batch.h, batch.a, layers, batch.mask, **options)
    return str(caught.value)


@pytest.mark.parametrize(
    ("what", "named"),
    [
        ("count", "num_negatives"), ("weight", "negative_weight"), ("world", "world_size"),
        ("layers", "layer_actions[0] is [2, 3, 3]"),
    ],
)  # fmt: skip
def test_an_error_on_one_rank_is_raised_by_all(pool: Any, what: str, named: str) -> None:
    messages = pool.run(4, bad_input, what)
    assert len(set(messages)) == 1
    assert "rank 1" in messages[0]
    assert named in messages[0]


def test_the_loss_of_guessing_counts_weights() -> None:
    """A model that cannot tell actions apart starts at 1, whatever made negatives weigh."""
    batch, layers, _ = whole([4])
    model = zoo.build(zoo.ScaledEnergy)
    model.scale = 0.0
    loss, *_ = hybrid_loss(model, batch.h, batch.a, layers, batch.mask)
    assert abs(loss - math.log(4 + MADE / 4)) < EXACT
    assert abs(latest_metrics()["loss_over_log_n"] - 1) < EXACT

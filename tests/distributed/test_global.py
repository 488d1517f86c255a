"""The global loss on real ranks against one process with the whole batch."""

import time
from typing import Any

import energy_zoo as zoo
import plain_reference as plain
import pytest
import torch
import torch.distributed as dist
from energy_losses import infonce, membership
from energy_losses.global_infonce import distributed_energy_inbatch_swap_infonce as global_loss
from energy_losses.ranks import average_gradients, broadcast_parameters
from energy_zoo import EXACT
from gloo_pool import forbid_collectives

EVEN = {2: [3, 3], 4: [3] * 4, 8: [3] * 8}


def step(rank: int, world: int, rows: list[int], mistake: str = "") -> dict[str, Any]:
    """One training step's loss and averaged gradient, with one mistake if asked for."""
    torch.manual_seed(rank)
    model = zoo.build(seed=rank)
    if mistake != "no broadcast":
        broadcast_parameters(model)
    batch = plain.share(plain.make_batch(sum(rows)), rows, rank)
    if mistake == "local negatives":
        loss = plain.global_loss(model, batch)[0]
    else:
        loss, *_ = global_loss(model, batch.h, batch.a, batch.mask, world_size=world)
    if mistake == "world size factor":
        loss = loss * world
    if mistake == "mean of means":
        loss = loss * sum(rows) / (rows[rank] * world)
    loss.backward()
    if mistake != "no averaging":
        average_gradients(model)
    return {"loss": loss.detach(), "gradients": plain.gradients(model), "length": batch.h.shape[1]}


def reference(rows: list[int]) -> tuple[torch.Tensor, list[torch.Tensor | None]]:
    model = zoo.build(seed=0)
    loss = plain.global_loss(model, plain.make_batch(sum(rows)))[0]
    return loss.detach(), plain.reference_gradients(model, loss)


@pytest.mark.parametrize("world", [2, 4, 8])
def test_equals_one_process(pool: Any, world: int) -> None:
    loss, expected = reference(EVEN[world])
    results = pool.run(world, step, EVEN[world])
    assert len({r["length"] for r in results}) > 1 or world == 2  # ranks pad to their own longest
    for result in results:
        assert plain.distance(result["gradients"], expected) < EXACT
    assert abs(sum(r["loss"] for r in results) / world - loss) < EXACT


@pytest.mark.parametrize("world", [2, 4, 8])
@pytest.mark.parametrize("mistake", ["no broadcast", "no averaging", "local negatives", "world size factor"])
def test_a_mistake_would_show(pool: Any, mistake: str, world: int) -> None:
    _, expected = reference(EVEN[world])
    for result in pool.run(world, step, EVEN[world], mistake):
        assert plain.distance(result["gradients"], expected) > 0.05


@pytest.mark.parametrize("rows", [[3, 2], [3, 2, 1, 3], [2, 0], [0, 1, 4, 1]])
def test_uneven_rows(pool: Any, rows: list[int]) -> None:
    loss, expected = reference(rows)
    results = pool.run(len(rows), step, rows)
    for result in results:
        assert plain.distance(result["gradients"], expected) < EXACT
    assert abs(sum(r["loss"] for r in results) / len(rows) - loss) < EXACT
    if 0 not in rows:
        worse = pool.run(len(rows), step, rows, "mean of means")[0]["gradients"]
        assert plain.distance(worse, expected) > 1e-3


def bad_input(rank: int, world: int, what: str) -> str:
    batch = plain.make_batch(2, seed=rank)
    h, a, mask, options = batch.h, batch.a, batch.mask, {}
    if rank == 1:
        a = {"steps": a[:, :-1], "rows": a[:1], "dim": a[0], "dtype": a.float(), "integers": a.long()}.get(what, a)
        mask = mask[:1] if what == "mask" else mask
        options = {"tau": {"tau": 0.0}, "world": {"world_size": 7}, "distance": {"min_distance": -1.0}}.get(what, {})
    start = time.monotonic()
    with pytest.raises(ValueError, match=r".") as caught:
        global_loss(zoo.build(), h, a, mask, **options)
    assert time.monotonic() - start < 1.0
    dist.barrier()
    return str(caught.value)


@pytest.mark.parametrize(
    ("what", "named"),
    [
        ("steps", "[2, 3, 3]"), ("rows", "[1, 4, 3]"), ("dim", "[4, 3]"), ("dtype", "torch.float32"),
        ("integers", "floating"), ("mask", "pad_mask [1, 5]"), ("tau", "tau"), ("world", "world_size"),
        ("distance", "min_distance"),
    ],
)  # fmt: skip
def test_an_error_on_one_rank_is_raised_by_all(pool: Any, what: str, named: str) -> None:
    messages = pool.run(4, bad_input, what)
    assert len(set(messages)) == 1
    assert "rank 1" in messages[0]
    assert named in messages[0]


def validate(rank: int, world: int) -> list[torch.Tensor]:
    model = zoo.build()
    with pytest.MonkeyPatch.context() as patch, torch.no_grad():
        forbid_collectives(patch)
        results = []
        for i in range(rank + 1):  # a different number of batches on each rank
            batch = plain.make_batch(3, seed=10 * rank + i)
            found = global_loss(model, batch.h, batch.a, batch.mask, world_size=123)
            expected = plain.global_loss(model, batch)
            results.append(torch.stack([abs(f - e) for f, e in zip(found, expected, strict=True)]))
    return results


def test_validation_issues_no_collective(pool: Any) -> None:
    for rank, errors in enumerate(pool.run(4, validate)):
        assert len(errors) == rank + 1
        assert torch.stack(errors).max() < EXACT


def test_without_a_group_there_are_no_collectives(monkeypatch: pytest.MonkeyPatch) -> None:
    forbid_collectives(monkeypatch)
    model, batch = zoo.build(), plain.make_batch(3)
    broadcast_parameters(model)
    found = global_loss(model, batch.h, batch.a, batch.mask, 0.3, world_size=8)
    expected = plain.global_loss(model, batch, 0.3)
    for f, e in zip(found, expected, strict=True):
        assert abs(f - e) < EXACT
        ours, theirs = (plain.reference_gradients(model, x) for x in (f, e))
        assert plain.distance(ours, theirs) < EXACT
    average_gradients(model)


@pytest.mark.parametrize("tau", [0.0, -1.0, float("nan"), float("inf")])
def test_temperature_must_be_positive(tau: float) -> None:
    batch = plain.make_batch(2)
    with pytest.raises(ValueError, match="tau"):
        global_loss(zoo.build(), batch.h, batch.a, batch.mask, tau)


def subgroups(rank: int, world: int, apart: bool) -> dict[str, Any]:
    groups = [dist.new_group([0, 2]), dist.new_group([1, 3])]
    model = zoo.build(seed=rank)
    mine = groups[rank % 2]
    broadcast_parameters(model, group=mine)
    batch = plain.make_batch(4, seed=rank % 2).rows(rank // 2 * 2, rank // 2 * 2 + 2)
    world_size, group = (2, mine) if apart else (4, None)
    loss, *_ = global_loss(model, batch.h, batch.a, batch.mask, world_size=world_size, group=group)
    loss.backward()
    average_gradients(model, group=mine)
    with pytest.raises(ValueError, match="not a member"):
        membership.training_ranks(groups[1 - rank % 2])
    return {"gradients": plain.gradients(model), "loss": loss.detach()}


def test_subgroups_keep_to_themselves(pool: Any) -> None:
    results, mixed = pool.run(4, subgroups, True), pool.run(4, subgroups, False)
    for parity in (0, 1):
        model = zoo.build(seed=parity)
        loss = plain.global_loss(model, plain.make_batch(4, seed=parity))[0]
        expected = plain.reference_gradients(model, loss)
        for result in results[parity::2]:
            assert plain.distance(result["gradients"], expected) < EXACT
        for result in mixed[parity::2]:
            assert plain.distance(result["gradients"], expected) > 1e-3


def actions_with_gradients(rank: int, world: int) -> dict[str, Any]:
    model = zoo.build()
    batch = plain.share(plain.make_batch(6), [3, 3], rank)
    actions = batch.a.clone().requires_grad_()
    loss, *_ = global_loss(model, batch.h, actions, batch.mask)
    loss.backward()
    average_gradients(model)
    return {"actions": actions.grad, "gradients": plain.gradients(model)}


def test_actions_with_gradients_keep_their_own_columns(pool: Any) -> None:
    _, expected = reference([3, 3])
    results = pool.run(2, actions_with_gradients)
    batch, model = plain.make_batch(6), zoo.build()
    for rank, result in enumerate(results):
        assert plain.distance(result["gradients"], expected) < EXACT
        actions = batch.a.clone()
        own = actions[3 * rank : 3 * rank + 3].clone().requires_grad_()
        actions[3 * rank : 3 * rank + 3] = own
        local = plain.energies(model, batch.rows(3 * rank, 3 * rank + 3), actions)
        plain.infonce(local, [3 * rank + i for i in range(3)], 0.5)[0].backward()
        assert torch.allclose(result["actions"], own.grad, atol=EXACT)


def test_min_distance_drops_near_candidates_but_never_the_positive() -> None:
    model, batch = zoo.build(), plain.make_batch(5)
    actions = batch.a.clone()
    actions[3] = actions[1] + 0.01
    actions[4] = actions[1]
    found = global_loss(model, batch.h, actions, batch.mask, min_distance=0.1)
    apart = torch.tensor([[(x - y).square().mean().sqrt() >= 0.1 for y in actions] for x in actions])
    assert apart.sum() == 14
    expected = plain.infonce(plain.energies(model, batch, actions), list(range(5)), 0.5, apart)
    for f, e in zip(found, expected, strict=True):
        assert abs(f - e) < EXACT
        ours, theirs = (plain.reference_gradients(model, x) for x in (f, e))
        assert plain.distance(ours, theirs) < EXACT


def test_min_distance_may_drop_every_negative() -> None:
    model, batch = zoo.build(), plain.make_batch(3)
    loss, e_pos, e_neg = global_loss(model, batch.h, batch.a, batch.mask, min_distance=100.0)
    loss.backward()
    assert loss == 0
    assert e_neg == 0
    assert torch.isfinite(e_pos)
    assert all(torch.isfinite(p.grad).all() for p in model.parameters())


@pytest.mark.parametrize("scale", [1e4, -1e4])
def test_large_energies_stay_finite(scale: float) -> None:
    model, batch = zoo.build(zoo.ScaledEnergy), plain.make_batch(4)
    model.scale = scale
    results = global_loss(model, batch.h, batch.a, batch.mask, 1e-3)
    assert abs(results[1]) > 1e3
    results[0].backward()
    assert all(torch.isfinite(x) for x in results)
    assert all(torch.isfinite(p.grad).all() for p in model.parameters())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_inputs(dtype: torch.dtype) -> None:
    model, batch = zoo.build().float(), plain.make_batch(4)
    h, a = batch.h.to(dtype), batch.a.to(dtype)
    found = global_loss(model, h, a, batch.mask)
    expected = plain.global_loss(model, plain.Batch(h.float(), a.float(), batch.mask))
    for f, e in zip(found, expected, strict=True):
        assert f.dtype == torch.float32
        assert abs(f - e) < 1e-5


def test_the_loss_of_a_half_precision_model_is_float32() -> None:
    model, batch = zoo.build(zoo.ScaledEnergy).bfloat16(), plain.make_batch(4)
    loss, *_ = global_loss(model, batch.h, batch.a, batch.mask)
    loss.backward()
    assert loss.dtype == torch.float32
    assert infonce.energy_matrix(model, batch.h, batch.a, batch.mask).dtype == torch.bfloat16

"""What a user sees: the first-step line, the figures of a call, warnings of batches that teach nothing."""

import contextlib
import io
import math
import warnings
from typing import Any

import energy_zoo as zoo
import plain_reference as plain
import pytest
import torch
from energy_losses.global_infonce import distributed_energy_inbatch_swap_infonce as global_loss
from energy_losses.layer_infonce import layer_based_energy_infonce_loss as layer_loss
from energy_losses.metrics import latest_metrics
from energy_losses.ranks import average_gradients, broadcast_parameters
from energy_zoo import EXACT


def first_steps(rank: int, world: int, synchronised: bool, kind: type) -> str:
    model = zoo.build(kind, seed=rank)
    if synchronised:
        broadcast_parameters(model)
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for seed in range(2):
            batch = plain.make_batch(3, seed=world * seed + rank)
            with torch.no_grad():
                global_loss(model, batch.h, batch.a, batch.mask)
            global_loss(model, batch.h, batch.a, batch.mask)
    return printed.getvalue()


@pytest.mark.parametrize(("synchronised", "weights"), [(True, "equal"), (False, "DIFFERENT")])
def test_rank_0_prints_one_line(pool: Any, synchronised: bool, weights: str) -> None:
    first, *others = pool.run(4, first_steps, synchronised, zoo.CrossEnergy)
    assert others == [""] * 3
    assert len(first.splitlines()) == 1
    assert f"ranks 4, candidates per row 12, scoring folded, weights on the ranks {weights}" in first


def test_the_line_names_plain_scoring(pool: Any) -> None:
    assert "scoring plain" in pool.run(2, first_steps, True, zoo.JointEnergy)[0]


def test_latest_metrics() -> None:
    model, batch = zoo.build(), plain.make_batch(4)
    loss, *_ = global_loss(model, batch.h, batch.a, batch.mask)
    table = plain.energies(model, batch, batch.a)
    figures = latest_metrics()
    assert figures["candidates"] == 4
    assert not figures["top1"].requires_grad
    lower = [all(table[i, i] < table[i, j] for j in range(4) if j != i) for i in range(4)]
    assert figures["top1"] == sum(lower) / 4
    assert abs(figures["loss_over_log_n"] - loss.detach() / math.log(4)) < EXACT


def test_one_row_on_one_rank_teaches_nothing_and_says_so_once() -> None:
    model, batch = zoo.build(), plain.make_batch(1)
    with pytest.warns(UserWarning, match="no negatives"):
        loss, _, e_neg = global_loss(model, batch.h, batch.a, batch.mask)
    loss.backward()
    global_loss(model, batch.h, batch.a, batch.mask)  # a second warning would be an error
    assert loss == 0
    assert e_neg == 0
    assert all((p.grad == 0).all() for p in model.parameters())


def same_batches(rank: int, world: int) -> tuple[float, list[str]]:
    model, batch = zoo.build(), plain.make_batch(3)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        loss, *_ = global_loss(model, batch.h, batch.a, batch.mask)
        global_loss(model, batch.h, batch.a, batch.mask)
    average_gradients(model)
    return float(loss.detach()), [str(w.message) for w in caught]


def test_equal_batches_on_all_ranks_are_noticed(pool: Any) -> None:
    model, batch = zoo.build(), plain.make_batch(3)
    local = plain.global_loss(model, batch)[0]
    for loss, messages in pool.run(4, same_batches):
        assert abs(loss - local - math.log(4)) < EXACT
        assert len(messages) == 1
        assert "seeded alike" in messages[0]


def test_a_tie_is_no_hit() -> None:
    model, batch = zoo.build(zoo.ScaledEnergy), plain.make_batch(4)
    model.scale = 0.0
    layer_loss(model, batch.h, batch.a, [], batch.mask)
    assert latest_metrics()["top1"] == 0

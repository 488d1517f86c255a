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
from energy_losses.ranks import average_gradients, broadcast_parameters, replicate
from energy_zoo import EXACT
from gloo_pool import forbid_collectives
from torch.nn.parallel import DistributedDataParallel


def first_steps(rank: int, world: int, synchronized: bool, kind: type) -> str:
    model = zoo.build(kind, seed=rank)
    if synchronized:
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


@pytest.mark.parametrize(("synchronized", "weights"), [(True, "equal"), (False, "DIFFERENT")])
def test_rank_0_prints_one_line(pool: Any, synchronized: bool, weights: str) -> None:
    first, *others = pool.run(4, first_steps, synchronized, zoo.CrossEnergy)
    assert others == [""] * 3
    assert len(first.splitlines()) == 1
    assert f"ranks 4, candidates per row 12, weights on the ranks {weights}" in first


def test_the_line_names_what_was_materialised(pool: Any) -> None:
    assert "per row 6, materialised for all pairs: cat, weights" in pool.run(2, first_steps, True, zoo.JointEnergy)[0]


def ten_steps(
    rank: int, world: int, name: str, line: bool, seed: int, wrapped: bool = False
) -> tuple[list[str], list[str]]:
    """What is printed and warned of in ten steps, with each line at its step and whether before its backward pass."""
    model = zoo.build(seed=seed * rank)
    scored = DistributedDataParallel(model) if wrapped else model
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    lines: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for step in range(1, 11):
            batch = plain.make_batch(3, seed=world * step + rank)
            printed = io.StringIO()
            with contextlib.redirect_stdout(printed):
                if line:
                    replicate(scored)
                with pytest.MonkeyPatch.context() as patch:
                    if name == "layer":
                        forbid_collectives(patch)
                        loss, *_ = layer_loss(scored, batch.h, batch.a, [], batch.mask)
                    else:
                        loss, *_ = global_loss(scored, batch.h, batch.a, batch.mask)
                before = printed.getvalue()
                loss.backward()
            lines += [f"{step} {text}" for text in before.splitlines()]
            lines += [f"{step} backward {text}" for text in printed.getvalue()[len(before) :].splitlines()]
            optimizer.step()
            optimizer.zero_grad()
    return lines, [str(w.message) for w in caught if "weights" in str(w.message)]


def test_ranks_that_start_and_stay_equal(pool: Any) -> None:
    (lines, warned), *others = pool.run(3, ten_steps, "global", True, 1)
    assert others == [([], [])] * 2
    assert warned == []
    first, tenth = lines
    assert first.startswith("1 energy_losses: ranks 3")
    assert first.endswith("weights on the ranks equal")
    assert tenth == "10 energy_losses: call 10, weights on the ranks still equal"


def test_a_missing_line_shows_at_the_first_call(pool: Any) -> None:
    lines, warned = pool.run(3, ten_steps, "global", False, 1)[0]
    assert len(lines) == 1
    assert "weights on the ranks DIFFERENT (is replicate(" in lines[0]
    assert len(warned) == 1
    assert "call 10, weights on the ranks DIFFERENT" in warned[0]


def test_ranks_that_only_start_equal_show_at_the_tenth_call(pool: Any) -> None:
    lines, warned = pool.run(3, ten_steps, "global", False, 0)[0]
    assert [line.rpartition(" ")[2] for line in lines] == ["equal"]
    assert len(warned) == 1
    assert "call 10, weights on the ranks DIFFERENT (is replicate(" in warned[0]


def test_a_loss_without_exchange_is_compared_with_the_gradients(pool: Any) -> None:
    (lines, warned), *others = pool.run(3, ten_steps, "layer", True, 1)
    assert others == [([], [])] * 2
    assert warned == []
    first, tenth = lines
    assert first.startswith("1 backward energy_losses: ranks 3")
    assert first.endswith("weights on the ranks equal")
    assert tenth == "10 backward energy_losses: call 10, weights on the ranks still equal"


@pytest.mark.parametrize("wrapped", [False, True])
def test_a_loss_without_exchange_says_that_nothing_was_compared(pool: Any, wrapped: bool) -> None:
    lines, warned = pool.run(3, ten_steps, "layer", wrapped, 1, wrapped)[0]
    assert len(lines) == 1
    assert "weights on the ranks not compared" in lines[0]
    assert warned == []


def change_on_one_rank(rank: int, world: int, name: str, missed: int) -> list[str]:
    """Warnings where one rank's weights change behind the ranks' backs before call 10, and rank 1 misses a call."""
    model = zoo.build()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for step in range(1, 11):
            batch = plain.make_batch(3, seed=world * step + rank)
            if step == 9 and rank == world - 1:
                with torch.no_grad():
                    next(model.parameters())[0] += 1.0
            replicate(model)
            if step == missed and rank == 1:
                sum(p.sum() for p in model.parameters()).backward()
            elif name == "layer":
                layer_loss(model, batch.h, batch.a, [], batch.mask)[0].backward()
            else:
                global_loss(model, batch.h, batch.a, batch.mask)[0].backward()
    return [str(w.message) for w in caught if "weights" in str(w.message)]


@pytest.mark.parametrize(("name", "missed", "warnings_"), [("global", 0, 1), ("layer", 0, 1), ("layer", 5, 0)])
def test_a_rank_that_leaves_the_others_is_noticed(pool: Any, name: str, missed: int, warnings_: int) -> None:
    first, *others = pool.run(4, change_on_one_rank, name, missed)
    assert len(first) == warnings_
    assert all("call 10" in message for message in first)
    assert others == [[]] * 3


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
    margins = [min(table[i, j] for j in range(4) if j != i) - table[i, i] for i in range(4)]
    assert abs(figures["margin"] - sum(margins) / 4 / 0.5) < EXACT
    assert abs(figures["spread"] - table.std(dim=1, correction=0).mean() / 0.5) < EXACT


def test_figures_leave_out_what_is_no_negative() -> None:
    model, batch = zoo.build(), plain.make_batch(4)
    actions = batch.a.clone()
    actions[0] = 5.0 + torch.zeros_like(actions[0])  # far from all others, which are near each other
    global_loss(model, batch.h, actions, batch.mask, 0.07, min_distance=2.0)
    table = plain.energies(model, batch, actions)
    figures = latest_metrics()
    rows = [table[0], *torch.stack([table.diagonal()[1:], table[1:, 0]], dim=1)]
    margins = [table[0, 1:].min() - table[0, 0], *(other - own for own, other in rows[1:])]
    assert abs(figures["margin"] - sum(margins) / 4 / 0.07) < EXACT
    assert abs(figures["spread"] - sum(row.std(correction=0) for row in rows) / 4 / 0.07) < EXACT


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

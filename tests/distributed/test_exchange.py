"""Rows and actions of all ranks: one message in most calls, and errors that reach every rank."""

from typing import Any

import energy_zoo as zoo
import plain_reference as plain
import pytest
import torch
import torch.distributed as dist
from energy_losses.exchange import exchange
from energy_losses.global_infonce import distributed_energy_inbatch_swap_infonce as global_loss
from energy_losses.membership import ALONE, training_ranks
from energy_losses.ranks import replicate
from energy_zoo import EXACT
from gloo_pool import COLLECTIVES
from torch import Tensor

HEADER = 200  # bytes
Call = tuple[list[int], int, torch.dtype]  # rows of each rank, H, dtype of the actions


def batch_of(call: Call, rank: int) -> tuple[Tensor, Tensor]:
    rows, steps, dtype = call
    generator = torch.Generator().manual_seed(rank)
    a = torch.randn(rows[rank], steps, 3, generator=generator, dtype=torch.float64).to(dtype)
    return torch.zeros(rows[rank], 2, 4), a.transpose(0, 1).contiguous().transpose(0, 1)


def exchange_all(rank: int, world: int, calls: list[Call]) -> list[tuple[int, list[int], Tensor]]:
    """The number of collectives of each call, and what it gave."""
    found, count = [], 0
    all_gather = dist.all_gather

    def gather(*args: Any, **kwargs: Any) -> Any:
        nonlocal count
        count += 1
        return all_gather(*args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dist, "all_gather", gather)
        for call in calls:
            count = 0
            rows, actions, _ = exchange(training_ranks(), *batch_of(call, rank), None, "")
            found.append((count, rows, actions))
    return found


F32, BF16 = torch.float32, torch.bfloat16
SEQUENCE: list[tuple[Call, int]] = [
    (([3, 3, 3], 4, F32), 2),
    (([3, 3, 3], 4, F32), 1),
    (([3, 0, 2], 4, F32), 1),  # the longest decides what fits
    (([2, 2, 1], 4, F32), 1),
    (([1, 3, 2], 4, F32), 2),
    (([3, 3, 3], 5, F32), 2),
    (([3, 3, 3], 5, F32), 1),
    (([3, 3, 3], 5, BF16), 2),
    (([3, 3, 3], 5, BF16), 1),
    (([0, 0, 0], 5, BF16), 1),
    (([1, 1, 1], 5, BF16), 1),
    (([2, 1, 7], 5, torch.float64), 2),
    (([7, 7, 7], 5, torch.float64), 1),
]


def test_actions_travel_with_the_header_where_they_fit(pool: Any) -> None:
    results = pool.run(3, exchange_all, [call for call, _ in SEQUENCE])
    for found in results:
        for (call, expected_count), (count, rows, actions) in zip(SEQUENCE, found, strict=True):
            assert (count, rows) == (expected_count, call[0]), call
            assert actions.dtype == call[2]
            expected = [batch_of(call, rank)[1] for rank in range(3)]
            assert torch.equal(actions, torch.cat(expected))
            assert not any(call[0]) or not torch.equal(actions, torch.cat(expected[::-1]))


def fail_between(rank: int, world: int, mistake: str) -> tuple[str, list[int]]:
    """A mistake on rank 1 between two calls that fit; what all ranks raise, and how many collectives each call took."""
    call: Call = ([2, 2, 2], 4, F32)
    h, a = batch_of(call, rank)
    exchange(training_ranks(), h, a, None, "")
    bad_h, bad_a = h, a.clone()
    if rank == 1 and mistake == "finite":
        bad_a[1, 2, 0] = float("nan")
    elif rank == 1 and mistake == "shape":
        bad_a = bad_a[:, :3]
    elif rank == 1 and mistake == "dimensions":
        bad_a = bad_a[0]
    elif rank == 1 and mistake == "more rows and a dtype":
        bad_h, bad_a = h.repeat(3, 1, 1), bad_a.repeat(3, 1, 1).double()
    elif rank == 1 and mistake == "integers":
        bad_a = bad_a.long()
    with pytest.raises(ValueError, match="rank 1 of 3") as caught:
        exchange(training_ranks(), bad_h, bad_a, None, "")
    counts = [count for count, *_ in exchange_all(rank, world, [call, call])]
    return str(caught.value), counts


@pytest.mark.parametrize(
    ("mistake", "said"),
    [
        ("finite", "not finite"),
        ("shape", r"\[2, 3, 3\]"),
        ("dimensions", "expected h"),
        ("more rows and a dtype", "float64"),
        ("integers", "floating point"),
    ],
)
def test_a_mistake_is_one_error_on_all_ranks_and_leaves_no_trace(pool: Any, mistake: str, said: str) -> None:
    results = pool.run(3, fail_between, mistake)
    assert len({error for error, _ in results}) == 1
    with pytest.raises(ValueError, match=said):
        raise ValueError(results[0][0])
    assert all(counts == [1, 1] for _, counts in results)


def test_alone_only_shapes_are_judged() -> None:
    h, a = torch.zeros(2, 3, 4), torch.full((2, 4, 3), float("nan"))
    assert exchange(ALONE, h, a, None, "").rows == [2]
    with pytest.raises(ValueError, match="batch sizes differ"):
        exchange(ALONE, h[:1], a, None, "")


def count_messages(rank: int, world: int) -> dict[str, list[int]]:
    """Bytes of each message of a later step, by the kind of collective."""
    names = [name for name in dir(dist) if name.startswith(COLLECTIVES)]
    sizes: dict[str, list[int]] = {}

    def counting(name: str, collective: Any) -> Any:
        def count(*args: Any, **kwargs: Any) -> Any:
            sizes.setdefault(name, []).append(next(x.nbytes for x in args if isinstance(x, Tensor)))
            return collective(*args, **kwargs)

        return count

    model, batch = zoo.build(zoo.CrossEnergy), plain.make_batch(3, seed=rank)
    for _ in range(2):
        sizes.clear()
        with pytest.MonkeyPatch.context() as patch:
            for name in names:
                patch.setattr(dist, name, counting(name, getattr(dist, name)))
            replicate(model)
            global_loss(model, batch.h, batch.a, batch.mask)[0].backward()
    sizes["parameters"] = [p.nbytes for p in model.parameters()]
    sizes["actions"] = [batch.a.nbytes]
    return sizes


def test_a_step_is_one_exchange_and_one_average(pool: Any) -> None:
    for sizes in pool.run(2, count_messages):
        parameters, (actions,) = sizes.pop("parameters"), sizes.pop("actions")
        behind = 8 * (len(parameters) + 5 + 2)  # which gradients there are; a checksum; a fault of each rank
        assert sizes == {"all_gather": [HEADER + actions], "all_reduce": [sum(parameters) + behind]}


def own_graph(rank: int, world: int) -> tuple[float, float]:
    """Distance of the gradient that reaches this rank's own actions from one process's, and from none."""
    rows = [2, 3]
    model, whole = zoo.build(), plain.make_batch(sum(rows))
    whole = plain.Batch(whole.h, whole.a.clone().requires_grad_(), whole.mask)
    own = slice(sum(rows[:rank]), sum(rows[: rank + 1]))
    table = plain.energies(model, whole.rows(own.start, own.stop), whole.a)
    loss = plain.infonce(table, list(range(own.start, own.stop)), 0.5)[0] * len(table) * world / sum(rows)
    expected = torch.autograd.grad(loss, whole.a)[0][own]
    batch = plain.share(plain.make_batch(sum(rows)), rows, rank)
    a = batch.a.clone().requires_grad_()
    global_loss(model, batch.h, a, batch.mask)[0].backward()
    return plain.distance([a.grad], [expected]), float(expected.norm())


def test_gradients_reach_own_actions_only(pool: Any) -> None:
    for error, size in pool.run(2, own_graph):
        assert error < EXACT
        assert size > 1e-3

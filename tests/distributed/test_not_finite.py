"""An action that is not finite on one rank: all ranks raise one error that names it, and no weight is harmed."""

from typing import Any

import energy_zoo as zoo
import plain_reference as plain
import pytest
import torch
from energy_losses.ranks import average_gradients, replicate
from every_loss import EXCHANGING_NOTHING, LOSSES, WITH_LAYERS
from torch.nn.parallel import DistributedDataParallel

BAD_STEP, BAD_RANK = 1, 1


def train(rank: int, world: int, name: str, where: str, line: str = "replicate") -> dict[str, Any]:
    """Up to four steps, at one of which a rank has a bad value; what was raised, at which step."""
    model = zoo.build(seed=rank if line == "replicate" else 0)
    scored = DistributedDataParallel(model) if line == "DDP" else model
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    found: dict[str, Any] = {"said": "", "step": None}
    for step in range(4):
        batch = plain.make_batch(2, seed=world * step + rank)
        layers = [batch.a + 0.1, batch.a + 0.2]
        if (rank, step) == (BAD_RANK, BAD_STEP) and where:
            value = float("inf") if step % 2 else float("nan")
            (batch.a if where == "a_pos" else layers[0])[0, 1, 2] = value
        if line == "replicate":
            replicate(model)
        try:
            loss, *_ = LOSSES[name](scored, batch, layers)
        except ValueError as error:
            found = {"said": str(error), "step": step}
            break
        loss.backward()
        if line == "by hand":
            average_gradients(model)
        optimizer.step()
        optimizer.zero_grad()
    return {**found, "weights": [p.detach().clone() for p in model.parameters()]}


CASES = [(name, "a_pos") for name in LOSSES] + [(name, "layer_actions") for name in WITH_LAYERS]


@pytest.mark.parametrize("line", ["replicate", "by hand"])
@pytest.mark.parametrize(("name", "where"), CASES)
def test_all_ranks_raise_the_same_error(pool: Any, name: str, where: str, line: str) -> None:
    results = pool.run(3, train, name, where, line)
    (said,) = {result["said"] for result in results}
    assert f"rank {BAD_RANK} of 3" in said
    assert f"{where} ha" in said
    assert "not finite" in said
    # A loss that exchanges nothing is told with the gradients of that step, to which it adds none.
    assert {result["step"] for result in results} == {BAD_STEP + (name in EXCHANGING_NOTHING)}
    for result in results:
        assert plain.distance(result["weights"], results[0]["weights"]) == 0
        assert all(torch.isfinite(w).all() for w in result["weights"])


@pytest.mark.parametrize("name", LOSSES)
def test_where_all_is_finite_nothing_is_raised(pool: Any, name: str) -> None:
    assert {result["said"] for result in pool.run(3, train, name, "")} == {""}


def test_in_ddp_nothing_of_ours_travels_for_layer(pool: Any) -> None:
    results = pool.outcomes(2, train, "layer", "a_pos", "DDP", seconds=20)
    assert results[BAD_RANK][0] == "ok"
    assert f"rank {BAD_RANK} of 2" in results[BAD_RANK][1]["said"]
    assert all(torch.isfinite(w).all() for w in results[BAD_RANK][1]["weights"])


def accumulate(rank: int, world: int) -> str:
    """Two calls before a backward pass; the first one is bad on a rank."""
    model = zoo.build()
    replicate(model)
    losses = []
    for step in range(2):
        batch = plain.make_batch(2, seed=world * step + rank)
        if (rank, step) == (BAD_RANK, 0):
            batch.a[0, 1, 2] = float("nan")
        losses.append(LOSSES["layer"](model, batch)[0])
    sum(losses).backward()
    with pytest.raises(ValueError, match="not finite") as caught:
        LOSSES["layer"](model, plain.make_batch(2))
    return str(caught.value)


def test_layer_waits_for_the_next_average(pool: Any) -> None:
    (said,) = set(pool.run(2, accumulate))
    assert f"rank {BAD_RANK} of 2" in said

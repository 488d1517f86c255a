"""The choice between the losses: from the configuration, never from the batch in hand."""

from typing import Any

import energy_zoo as zoo
import plain_reference as plain
import pytest
import torch
from energy_losses.adaptive import adaptive_energy_loss
from energy_losses.layer_infonce import make_negatives
from energy_losses.ranks import average_gradients
from energy_zoo import EXACT
from torch import Tensor


def step(rank: int, world: int, rows: list[int], configured: int) -> list[Tensor | None]:
    model = zoo.build()
    batch = plain.share(plain.make_batch(sum(rows)), rows, rank)
    torch.manual_seed(3)
    loss, *_ = adaptive_energy_loss(
        model, batch.h, batch.a, [], batch.mask, configured, world, 17, min_local_batch=4, num_negatives=5
    )
    loss.backward()
    average_gradients(model)
    return plain.gradients(model)


@pytest.mark.parametrize(
    ("rows", "configured", "chosen"),
    [
        ([3], 3, "in-batch"), ([9], 9, "in-batch"),
        ([4, 4], 4, "global"), ([4, 1], 4, "global"), ([5, 0], 5, "global"),
        ([3, 3], 3, "layer"), ([5, 2], 3, "layer"),
    ],
)  # fmt: skip
def test_every_row_of_the_table(pool: Any, rows: list[int], configured: int, chosen: str) -> None:
    model, whole = zoo.build(), plain.make_batch(sum(rows))
    if chosen == "layer":
        loss = torch.zeros(())
        for rank, count in enumerate(rows):
            batch = plain.share(whole, rows, rank)
            torch.manual_seed(3)
            negatives = make_negatives(batch.a, [], 5)
            listed = [[own, *others] for own, others in zip(batch.a, negatives, strict=True)]
            loss = loss + plain.infonce(plain.energies(model, batch, listed), [0] * count, 0.3)[0] / len(rows)
    else:
        loss = plain.global_loss(model, whole, 0.3)[0]
    expected = plain.reference_gradients(model, loss)
    for found in pool.run(len(rows), step, rows, configured):
        assert plain.distance(found, expected) < EXACT


def test_the_configured_batch_must_be_positive() -> None:
    batch = plain.make_batch(2)
    with pytest.raises(ValueError, match="local_batch_size"):
        adaptive_energy_loss(zoo.build(), batch.h, batch.a, [], batch.mask, 0)

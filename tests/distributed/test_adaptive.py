"""The choice between the losses: from the configuration, never from the batch in hand."""

import inspect
from typing import Any

import energy_zoo as zoo
import plain_reference as plain
import pytest
import torch
from energy_losses import adaptive
from energy_losses.adaptive import adaptive_energy_loss
from energy_losses.ranks import average_gradients
from energy_zoo import EXACT
from torch import Tensor


def step(rank: int, world: int, rows: list[int], configured: int) -> list[Tensor | None]:
    model = zoo.build()
    batch = plain.share(plain.make_batch(sum(rows)), rows, rank)
    layers = [batch.a + 0.1 * k for k in range(1, 4)]
    loss, *_ = adaptive_energy_loss(
        model, batch.h, batch.a, layers, batch.mask, configured, world, 17, min_local_batch=4, num_negatives=2
    )
    loss.backward()
    average_gradients(model)
    return plain.gradients(model)


@pytest.mark.parametrize(
    ("rows", "configured", "is_hybrid"),
    [
        ([3], 3, False), ([9], 9, False),
        ([4, 4], 4, False), ([4, 1], 4, False), ([5, 0], 5, False),
        ([3, 3], 3, True), ([5, 2], 3, True), ([1, 0], 1, True),
    ],
)  # fmt: skip
def test_every_row_of_the_table(pool: Any, rows: list[int], configured: int, is_hybrid: bool) -> None:
    model, batch = zoo.build(), plain.make_batch(sum(rows))
    made = torch.stack([batch.a + 0.1, batch.a + 0.2], dim=1)  # of layers 0 and 1
    weight = 0.25 if len(batch.a) > 1 else 1.0
    losses = plain.global_loss(model, batch, 0.3)[0], plain.hybrid_loss(model, batch, made, weight=weight)[0]
    gradients = [plain.reference_gradients(model, loss) for loss in losses]
    for found in pool.run(len(rows), step, rows, configured):
        assert plain.distance(found, gradients[is_hybrid]) < EXACT
        assert plain.distance(found, gradients[not is_hybrid]) > 1e-3


def test_the_configured_batch_must_be_positive() -> None:
    batch = plain.make_batch(2)
    with pytest.raises(ValueError, match="local_batch_size"):
        adaptive_energy_loss(zoo.build(), batch.h, batch.a, [], batch.mask, 0)


@pytest.mark.parametrize("configured", [3, 4])
def test_every_option_is_handed_on(monkeypatch: pytest.MonkeyPatch, configured: int) -> None:
    given = {"tau": 0.2, "num_negatives": 2, "negative_weight": 0.7, "min_distance": 0.1}
    given |= {"generator": torch.Generator(), "group": object()}
    seen: list[dict[str, Any]] = []
    for name in ("distributed_energy_inbatch_swap_infonce", "hybrid_energy_infonce_loss"):
        signature = inspect.signature(getattr(adaptive, name))

        def loss(*args: Any, signature: inspect.Signature = signature, **kwargs: Any) -> None:
            seen.append({key: signature.bind(*args, **kwargs).arguments.get(key) for key in signature.parameters})

        monkeypatch.setattr(adaptive, name, loss)
    batch = plain.make_batch(2)
    adaptive_energy_loss(zoo.build(), batch.h, batch.a, [], batch.mask, configured, 2, min_local_batch=4, **given)
    (options,) = seen
    assert ("generator" in options) == (configured < 4)
    assert {name: options[name] for name in given if name in options} == {n: given[n] for n in given if n in options}
    assert options["world_size"] == 2

"""Broadcast and averaging on real ranks."""

import os
import time
from datetime import timedelta
from typing import Any

import energy_zoo as zoo
import plain_reference as plain
import pytest
import torch
import torch.distributed as dist
from energy_losses import exchange
from energy_losses.global_infonce import distributed_energy_inbatch_swap_infonce as global_loss
from energy_losses.membership import unwrapped
from energy_losses.ranks import average_gradients, broadcast_parameters
from energy_zoo import EXACT
from gloo_pool import RankError
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel


class Mixed(nn.Module):
    """Parameters and buffers of many dtypes and shapes."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)

        def draw(*shape: int) -> Tensor:
            return torch.randn(*shape, generator=generator, dtype=torch.float64)

        self.single = nn.Parameter(draw(3, 5).float())
        self.odd = nn.Parameter(draw(7).bfloat16())
        self.wide = nn.Parameter(draw(2, 2))
        self.strided = nn.Parameter(draw(4, 3).t())
        self.frozen = nn.Parameter(draw(5).half(), requires_grad=False)
        self.register_buffer("count", torch.tensor(seed))
        self.register_buffer("flags", draw(3) > 0)
        self.register_buffer("hidden", draw(2), persistent=False)


def broadcast(rank: int, world: int) -> list[Tensor]:
    model = Mixed(seed=rank)
    identity = [id(p) for p in model.parameters()]
    broadcast_parameters(model)
    assert [id(p) for p in model.parameters()] == identity
    return [t.detach() for t in [*model.parameters(), *model.buffers()]]


def test_broadcast_makes_ranks_bitwise_equal(pool: Any) -> None:
    expected = Mixed(seed=0)
    expected_tensors = [*expected.parameters(), *expected.buffers()]
    for tensors in pool.run(4, broadcast):
        for found, tensor in zip(tensors, expected_tensors, strict=True):
            assert found.dtype == tensor.dtype
            assert torch.equal(found, tensor)


def broadcast_different_models(rank: int, world: int) -> str:
    with pytest.raises(ValueError, match="differ in size") as caught:
        broadcast_parameters(nn.Linear(2 + rank, 3))
    return str(caught.value)


def test_broadcast_refuses_models_of_different_size(pool: Any) -> None:
    assert len(set(pool.run(2, broadcast_different_models))) == 1


def average_mixed(rank: int, world: int) -> list[Tensor | None]:
    model = Mixed(seed=0)
    for i, parameter in enumerate(p for p in model.parameters() if p.requires_grad):
        if i == 0 or (i == 1 and rank == 1) or (i == 3):
            parameter.grad = torch.full_like(parameter, float(rank + 1 + i))
    average_gradients(model)
    return [p.grad for p in model.parameters()]


def test_a_missing_gradient_counts_as_zero_or_stays_none(pool: Any) -> None:
    for single, odd, double, strided, frozen in pool.run(2, average_mixed):
        assert torch.equal(single, torch.full((3, 5), 1.5))
        assert odd.dtype == torch.bfloat16
        assert torch.equal(odd, torch.full((7,), 1.5, dtype=torch.bfloat16))
        assert double is None
        assert torch.equal(strided, torch.full((3, 4), 4.5, dtype=torch.float64))
        assert frozen is None


def average_and_ddp(rank: int, world: int) -> float:
    model, wrapped = zoo.build(), DistributedDataParallel(zoo.build())
    batch = plain.make_batch(3, seed=rank)
    for each in (model, wrapped):
        each(batch.h, batch.a, batch.mask).square().mean().backward()
    assert plain.distance(plain.gradients(model), plain.gradients(wrapped)) > 1e-3
    average_gradients(model)
    once = plain.gradients(model)
    average_gradients(model)
    assert plain.distance(plain.gradients(model), once) < EXACT
    average_gradients(wrapped)
    broadcast_parameters(wrapped)
    return plain.distance(once, plain.gradients(wrapped))


def test_averaging_equals_ddp_and_is_idempotent(pool: Any) -> None:
    assert max(pool.run(4, average_and_ddp)) < EXACT


def clip_and_accumulate(rank: int, world: int, early_clip: bool, micro: int) -> list[Tensor | None]:
    model = zoo.build()
    for i in range(micro):
        batch = plain.share(plain.make_batch(6, seed=i), [3, 3], rank)
        loss, *_ = global_loss(model, batch.h, batch.a, batch.mask)
        (loss / micro).backward()
    if early_clip:
        nn.utils.clip_grad_norm_(model.parameters(), 1e-2)
    average_gradients(model)
    if not early_clip:
        nn.utils.clip_grad_norm_(model.parameters(), 1e-2)
    return plain.gradients(model)


@pytest.mark.parametrize("micro", [1, 2])
def test_clip_after_averaging_equals_one_process(pool: Any, micro: int) -> None:
    model = zoo.build()
    losses = [plain.global_loss(model, plain.make_batch(6, seed=i))[0] for i in range(micro)]
    plain.reference_gradients(model, sum(losses) / micro)
    nn.utils.clip_grad_norm_(model.parameters(), 1e-2)
    expected = plain.gradients(model)
    for found in pool.run(2, clip_and_accumulate, False, micro):
        assert plain.distance(found, expected) < EXACT
    for found in pool.run(2, clip_and_accumulate, True, micro):
        assert plain.distance(found, expected) > 1e-3


def die(rank: int, world: int, moment: str) -> None:
    def end(*_: Any, **__: Any) -> None:
        os._exit(3)

    model, batch = zoo.build(), plain.make_batch(2)
    with pytest.MonkeyPatch.context() as patch:
        if rank == 1 and moment == "before the header":
            end()
        if rank == 1 and moment == "after the header":
            patch.setattr(exchange._Slot, "emptied", end)
        global_loss(model, batch.h, batch.a, batch.mask)[0].backward()
    if rank == 1:
        end()
    average_gradients(model)


@pytest.mark.parametrize("moment", ["before the header", "after the header", "before the average"])
def test_a_rank_that_dies_ends_the_others(pool: Any, moment: str) -> None:
    outcomes = pool.outcomes(4, die, moment)
    assert [kind for kind, *_ in outcomes] == ["failed"] * 4
    assert "the process died" in outcomes.pop(1)[1]
    for _, reason, seconds in outcomes:
        assert "Traceback" in reason
        assert seconds < 20  # before the group's own timeout


def hang(rank: int, world: int) -> float:
    group = dist.new_group(timeout=timedelta(seconds=1))
    model, batch = zoo.build(), plain.make_batch(2)
    start = time.monotonic()
    if rank == 1:
        time.sleep(4)
        return 0.0
    with pytest.raises(RuntimeError):
        global_loss(model, batch.h, batch.a, batch.mask, group=group)
    return time.monotonic() - start


def test_a_rank_that_hangs_ends_the_others_at_the_groups_timeout(pool: Any) -> None:
    assert 0.5 < max(pool.run(3, hang)) < 4


def fail_on_one_rank(rank: int, world: int) -> None:
    if rank == 1:
        raise ArithmeticError("seen on this rank")
    dist.barrier()


def test_the_pool_shows_a_ranks_traceback(pool: Any) -> None:
    with pytest.raises(RankError, match="ArithmeticError: seen on this rank"):
        pool.run(2, fail_on_one_rank)
    assert pool.run(2, broadcast)


def test_unwrapped() -> None:
    model = zoo.build()
    assert unwrapped(torch.compile(model, backend="eager")) is model
    assert unwrapped(model) is model

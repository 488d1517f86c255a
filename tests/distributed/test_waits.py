"""How often the host waits for the device: one process as rank 0 of 8, whose collectives cost nothing.

On the CPU nothing waits, so the operations are counted that would on a GPU. With ``ENERGY_TEST_DEVICE=cuda`` CUDA
itself counts. The model is one that reads no value back.
"""

import os
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import energy_zoo as zoo
import plain_reference as plain
import pytest
import torch
import torch.distributed as dist
from energy_losses.ranks import replicate
from every_loss import LOSSES
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.testing._internal.distributed.fake_pg import FakeStore
from torch.utils._python_dispatch import TorchDispatchMode

DEVICE = os.environ.get("ENERGY_TEST_DEVICE", "cpu")
READS = {"_local_scalar_dense", "equal", "masked_select", "nonzero", "repeat_interleave", "unique", "_unique2"}
INDEXES = {"index", "index_put", "index_put_"}  # wait for the number of what a mask picks


class _Operations(TorchDispatchMode):
    def __init__(self, seen: "Counter[str]") -> None:
        super().__init__()
        self.seen = seen

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name, overload = func._schema.name.removeprefix("aten::"), func._overloadname
        by_mask = name in INDEXES and any(i is not None and i.dtype in (torch.bool, torch.uint8) for i in args[1])
        if by_mask or (name in READS and (name, overload) != ("repeat_interleave", "self_int")):
            self.seen[name] += 1
        return func(*args, **(kwargs or {}))


class _Functions(TorchFunctionMode):
    """What reads memory, or writes it, without an operation."""

    def __init__(self, seen: "Counter[str]") -> None:
        super().__init__()
        self.seen = seen

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in (Tensor.tolist, Tensor.numpy, Tensor.cpu):
            self.seen[func.__name__] += 1
        if func in (torch.tensor, torch.as_tensor) and kwargs.get("device") is not None:
            self.seen["upload"] += 1
        return func(*args, **kwargs)


def waits(function: Callable[[], Any]) -> "Counter[str]":
    """What the host waits for in a call, by name."""
    seen: Counter[str] = Counter()
    if DEVICE == "cpu":
        with _Operations(seen), _Functions(seen):
            function()
        return seen
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("warn")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        function()
    torch.cuda.set_sync_debug_mode("default")
    for warning in caught:
        if "synchronizing CUDA operation" in str(warning.message):
            seen[f"{Path(warning.filename).name}:{warning.lineno}"] += 1
    return seen


def backward(loss: Tensor) -> None:
    """``loss.backward()`` as the engine gets it: a mode that sees ``backward`` itself is off until it is over."""
    engine, ones = torch.autograd.Variable._execution_engine, torch.ones_like(loss)
    engine.run_backward((loss,), (ones,), False, False, (), allow_unreachable=True, accumulate_grad=True)


def train(rank: int, world: int, name: str, unused: bool = False) -> list[tuple["Counter[str]", "Counter[str]"]]:
    """Waits of the loss (with the line) and of the backward pass, at each of three steps."""
    dist.destroy_process_group()
    dist.init_process_group("fake", rank=0, world_size=8, store=FakeStore())
    model = zoo.build(zoo.CrossEnergy).to(DEVICE)
    if unused:
        model.unused = nn.Parameter(torch.ones(2, dtype=torch.float64, device=DEVICE))
    found = []
    for seed in range(3):
        batch = plain.Batch(*(x.to(DEVICE) for x in vars(plain.make_batch(3, seed=seed)).values()))
        losses: list[Tensor] = []

        def call(batch: plain.Batch = batch, losses: list[Tensor] = losses) -> None:
            replicate(model)
            losses.append(LOSSES[name](model, batch, [batch.a, batch.a])[0])

        found.append((waits(call), waits(lambda losses=losses: backward(losses[0]))))
        model.zero_grad()
    return found


@pytest.mark.parametrize("name", LOSSES)
def test_a_micro_batch_waits_twice_at_most(pool: Any, name: str) -> None:
    (first, *_), *later = pool.run(1, train, name)[0]
    assert first.total() <= 20, first
    for loss, backward in later:
        assert loss.total() <= 2, loss
        assert backward.total() == 0, backward


def test_a_gradient_that_is_missing_costs_one_wait(pool: Any) -> None:
    """Another rank may have one, which must be known before the optimizer steps."""
    for loss, backward in pool.run(1, train, "global", True)[0][1:]:
        assert loss.total() <= 2, loss
        assert backward.total() == 1, backward


def read_back(rank: int, world: int) -> "Counter[str]":
    x = torch.arange(6.0, device=DEVICE)

    def everything() -> None:
        x.tolist()
        x[0].item()
        bool(x[0])
        x[x > 1]
        x.nonzero()
        torch.equal(x, x)
        torch.tensor([1.0], device=DEVICE)
        x.to(torch.float64)
        x.sum()

    return waits(everything)


def test_waits_are_seen(pool: Any) -> None:
    assert pool.run(1, read_back)[0].total() == 7


def read_back_at_the_end(rank: int, world: int) -> "Counter[str]":
    """In a backward pass, by a hook of a parameter and by a callback at its end, as `replicate` has them."""
    weight = nn.Parameter(torch.ones(3, device=DEVICE))

    def hook(gradient: Tensor) -> None:
        weight.grad.tolist()
        torch.autograd.Variable._execution_engine.queue_callback(weight.tolist)

    weight.register_post_accumulate_grad_hook(hook)
    return waits(lambda: backward(weight.sum()))


def test_waits_of_a_backward_pass_are_seen(pool: Any) -> None:
    assert pool.run(1, read_back_at_the_end)[0].total() == 2

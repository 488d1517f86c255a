"""What may go otherwise on a GPU: backends, precisions, random numbers, memory. ``ENERGY_TEST_DEVICE=cuda`` runs there.

On the CPU the same tests run with what a CPU has of it.
"""

import contextlib
from collections.abc import Iterator
from typing import Any

import energy_zoo as zoo
import plain_reference as plain
import pytest
import torch
import torch.distributed as dist
from energy_losses.global_infonce import distributed_energy_inbatch_swap_infonce as global_loss
from energy_losses.ranks import replicate
from energy_losses.scoring import energy_matrix
from torch import Tensor

DEVICE = plain.DEVICE
KIND = DEVICE.type


def carry(rank: int, world: int, backend: str) -> list[Tensor]:
    """What travels, in a group of one rank, where the losses themselves would send nothing."""
    group = dist.new_group(backend=backend)
    sent = [torch.arange(5, device=DEVICE).to(dtype) for dtype in (torch.int64, torch.float32, torch.float64)]
    received = [torch.empty_like(each) for each in sent]
    for mine, theirs in zip(sent, received, strict=True):
        dist.all_gather([theirs], mine, group=group)
    raw = torch.arange(5, dtype=torch.uint8, device=DEVICE)
    dist.broadcast(raw, src=0, group=group)
    total = torch.ones(3, device=DEVICE)
    dist.all_reduce(total, group=group)
    return [each.cpu() for each in (*received, raw, total)]


def test_the_devices_backend_carries_what_the_losses_send(pool: Any) -> None:
    *gathered, raw, total = pool.run(1, carry, "nccl" if KIND == "cuda" else "gloo")[0]
    assert all(each.tolist() == [0, 1, 2, 3, 4] for each in (*gathered, raw))
    assert total.tolist() == [1, 1, 1]


@contextlib.contextmanager
def tf32(switch: str) -> Iterator[None]:
    """Let float32 products have 10 bits, by the old switch or the new one."""
    matmul: Any = torch.backends.cuda.matmul
    name, on = ("allow_tf32", True) if switch == "allow_tf32" else ("fp32_precision", "tf32")
    if not hasattr(matmul, name):
        pytest.skip(f"this torch has no {name}")
    before = getattr(matmul, name)
    setattr(matmul, name, on)
    try:
        yield
    finally:
        setattr(matmul, name, before)


@torch.no_grad()
def difference(model: Any) -> tuple[float, float]:
    """Between energies of pairs that share their encodings and plain ones; and how far plain ones lie apart."""
    batch = plain.make_batch(3, s=24, steps=8)
    first = next(model.parameters()).dtype
    h, a = batch.h.to(first), batch.a.to(first)
    found = energy_matrix(model, h, a, batch.mask)
    expected = plain.energies(model, plain.Batch(h, a, batch.mask), a)
    return float((found - expected).abs().max()), float(expected.max() - expected.min())


@pytest.mark.parametrize("switch", ["allow_tf32", "fp32_precision"])
def test_short_products(switch: str) -> None:
    with tf32(switch):
        error, spread = difference(zoo.build().float())
    assert error < 1e-2 * spread


@pytest.mark.parametrize("dtype", [torch.bfloat16, *([torch.float16] if KIND == "cuda" else [])])
def test_autocast(dtype: torch.dtype) -> None:
    with torch.autocast(KIND, dtype=dtype):
        error, spread = difference(zoo.build().float())
    assert spread > 0
    assert error < 0.1 * spread


@pytest.mark.parametrize("backend", ["MATH", "EFFICIENT_ATTENTION", "FLASH_ATTENTION"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_attention_backends(backend: str, dtype: torch.dtype) -> None:
    attention = pytest.importorskip("torch.nn.attention")
    with attention.sdpa_kernel(getattr(attention.SDPBackend, backend)):
        try:
            error, spread = difference(zoo.build().to(dtype))
        except RuntimeError as refused:
            pytest.skip(str(refused).splitlines()[0])  # a backend may refuse a device or a dtype
    assert error < (1e-4 if dtype == torch.float32 else 0.1) * spread


def first_call(rank: int, world: int) -> bool:
    """Whether a first call leaves the random numbers as they were."""
    model, batch = zoo.build(), plain.make_batch(2)
    states = []
    for _ in range(2):
        states.append([torch.get_rng_state(), *(torch.cuda.get_rng_state_all() if KIND == "cuda" else [])])
        if len(states) == 1:
            replicate(model)
            global_loss(model, batch.h, batch.a, batch.mask)[0].backward()
    return all(torch.equal(*pair) for pair in zip(*states, strict=True))


def test_the_first_call_draws_nothing(pool: Any) -> None:
    assert all(pool.run(2, first_call))


def overflow(rank: int, world: int, shared: bool) -> list[float]:
    """Scale after each of two steps; the first overflows on rank 1."""
    model, batch = zoo.build().float(), plain.make_batch(2)
    scaler = torch.cuda.amp.GradScaler() if KIND == "cuda" else torch.amp.GradScaler("cpu")
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    scales = []
    for step in range(2):
        if shared:
            replicate(model)
        loss, *_ = global_loss(model, batch.h.float(), batch.a.float(), batch.mask)
        scaler.scale(loss * (float("inf") if (rank, step) == (1, 0) else 1)).backward()
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()
        scales.append(scaler.get_scale())
    return scales


def test_an_overflow_on_one_rank_skips_the_step_on_all(pool: Any) -> None:
    if KIND == "cpu" and not hasattr(torch.amp, "GradScaler"):
        pytest.skip("this torch scales gradients on CUDA only")
    first, second = pool.run(2, overflow, True)
    assert first == second
    assert first[0] < 65536
    alone, overflown = pool.run(2, overflow, False)
    assert alone != overflown


class RunsOut(zoo.CrossEnergy):
    """Asks for more memory than there is, in its first call."""

    def forward(self, h: Tensor, a: Tensor, pad_mask: Tensor | None = None) -> Any:
        if not hasattr(self, "ran_out"):
            self.ran_out = True
            torch.empty(2**50, device=h.device)
        return super().forward(h, a, pad_mask)


def test_a_call_after_one_that_ran_out_of_memory() -> None:
    model, batch = zoo.build(RunsOut), plain.make_batch(3)
    with pytest.raises(RuntimeError, match="allocate"):
        global_loss(model, batch.h, batch.a, batch.mask)
    expected = plain.global_loss(model, batch)
    found = global_loss(model, batch.h, batch.a, batch.mask)
    assert torch.allclose(torch.stack(found), torch.stack(expected), rtol=0, atol=zoo.EXACT)

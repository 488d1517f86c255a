"""What ``replicate`` does to a model, when it does nothing, and what it refuses."""

import gc
import io
import weakref
from typing import Any

import energy_zoo as zoo
import plain_reference as plain
import pytest
import torch
import torch.distributed as dist
from energy_losses import collectives, membership
from energy_losses import ranks as ranks_module
from energy_losses.global_infonce import distributed_energy_inbatch_swap_infonce as global_loss
from energy_losses.ranks import average_gradients, average_when_done, broadcast_parameters, replicate
from gloo_pool import forbid_collectives
from torch import Tensor, nn
from torch.distributed.fsdp import FullyShardedDataParallel
from torch.nn.parallel import DistributedDataParallel
from torch.utils.checkpoint import checkpoint


def do_nothing(rank: int, world: int, why: str) -> list[Tensor]:
    """Calls without effect, with every collective forbidden; then what training with the line gives."""
    model = zoo.build(seed=rank)
    before = [p.clone() for p in model.parameters()]
    group = dist.new_group([rank], use_local_synchronization=True) if why == "one rank" else None
    batch = plain.make_batch(2, seed=rank)
    with pytest.MonkeyPatch.context() as patch, torch.set_grad_enabled(why != "no gradients"):
        wrapped = DistributedDataParallel(model) if why == "DDP" else model
        before = [p.clone() for p in model.parameters()]
        forbid_collectives(patch)
        assert replicate(wrapped, group=group) is wrapped
        assert all(torch.equal(p, b) for p, b in zip(model.parameters(), before, strict=True))
        if why != "no gradients":
            model(batch.h, batch.a, batch.mask).sum().backward()
    model.zero_grad()
    replicate(model)
    model(batch.h, batch.a, batch.mask).sum().backward()
    return plain.gradients(model)


@pytest.mark.parametrize("why", ["one rank", "no gradients", "DDP"])
def test_calls_without_effect_are_not_remembered(pool: Any, why: str) -> None:
    first, *others = pool.run(3, do_nothing, why)
    assert all(plain.distance(other, first) == 0 for other in others)


def test_without_a_process_group_nothing_happens() -> None:
    model = zoo.build()
    assert replicate(model) is model
    assert model not in ranks_module._replicas


def repeat(rank: int, world: int) -> int:
    model, batch = zoo.build(seed=rank), plain.make_batch(2, seed=rank)
    compiled = torch.compile(model, backend="eager")
    assert replicate(model) is model
    with pytest.MonkeyPatch.context() as patch:
        forbid_collectives(patch)
        for _ in range(3):
            assert replicate(model) is model
            assert replicate(compiled) is compiled
    return averages(lambda: model(batch.h, batch.a, batch.mask).sum().backward())


def averages(function: Any) -> int:
    """How often gradients are averaged."""
    count, all_reduce = 0, dist.all_reduce

    def reduce(*args: Any, **kwargs: Any) -> Any:
        nonlocal count
        count += 1
        return all_reduce(*args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dist, "all_reduce", reduce)
        function()
    return count


def test_later_calls_send_nothing_and_add_nothing(pool: Any) -> None:
    assert pool.run(2, repeat) == [1, 1]


def pass_in_parts(rank: int, world: int, rows: list[int], deferred: bool) -> int:
    """A reentrant checkpoint for each row: each has a backward pass of its own, inside the outer one."""
    model, batch = replicate(zoo.build()), plain.make_batch(rows[rank], seed=rank)
    h = batch.h.clone().requires_grad_()
    parts = [slice(i, i + 1) for i in range(rows[rank])]
    energies = torch.cat([checkpoint(model, h[i], batch.a[i], batch.mask[i], use_reentrant=True) for i in parts])
    return averages((average_when_done(energies) if deferred else energies).sum().backward)


def test_nested_passes_are_averaged_once_in_the_losses(pool: Any) -> None:
    assert pool.run(3, pass_in_parts, [3, 2, 5], True) == [1, 1, 1]
    assert pool.run(3, pass_in_parts, [3, 3, 3], False) == [3, 3, 3]


def forward_first(rank: int, world: int) -> list[list[Tensor]]:
    """The script uses its model where no line was put, before the one that replicates: the margin of a composite."""
    model, batch = zoo.build(seed=rank), plain.make_batch(2, seed=rank)
    found = []
    for _ in range(2):
        margin = model(batch.h, batch.a, batch.mask).square().mean()
        replicate(model)
        (margin + global_loss(model, batch.h, batch.a, batch.mask)[0]).backward()
        found.append(plain.gradients(model))
        model.zero_grad()
    return found


def test_a_forward_pass_before_the_first_call_keeps_its_backward_pass(pool: Any) -> None:
    first, *others = pool.run(3, forward_first)
    assert plain.distance(first[0], first[1]) > 0  # once, ranks other than 0 differentiate what they had before
    for found in others:
        assert [plain.distance(mine, theirs) for mine, theirs in zip(found, first, strict=True)] == [0, 0]


def live_and_die(rank: int, world: int) -> bool:
    model, batch = replicate(zoo.build()), plain.make_batch(2, seed=rank)
    global_loss(model, batch.h, batch.a, batch.mask)[0].backward()
    known, weight = weakref.ref(model), weakref.ref(next(model.parameters()))
    del model
    gc.collect()
    return known() is None and weight() is None


def test_the_model_is_remembered_weakly(pool: Any) -> None:
    assert pool.run(2, live_and_die) == [True, True]


def save(rank: int, world: int) -> tuple[list[str], list[str], bytes]:
    model = zoo.build()
    keys = list(model.state_dict())
    file = io.BytesIO()
    torch.save(replicate(model), file)
    return keys, list(model.state_dict()), file.getvalue()


def test_what_is_saved_knows_nothing_of_it(pool: Any) -> None:
    for before, after, file in pool.run(2, save):
        assert before == after
        assert b"energy_zoo" in file
        assert b"energy_losses" not in file


def shard(rank: int, world: int, kind: str) -> list[str]:
    """What the line, and its two parts, raise for a model in shards."""
    model: nn.Module = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2))
    if kind == "FSDP":
        model = FullyShardedDataParallel(model, device_id=torch.device("cpu"))
    elif kind == "FSDP, original parameters":
        model = FullyShardedDataParallel(model, device_id=torch.device("cpu"), use_orig_params=True)
    elif kind == "part of FSDP":
        whole = nn.Sequential(nn.Linear(2, 4), model)
        whole = FullyShardedDataParallel(whole, device_id=torch.device("cpu"), use_orig_params=True)
    elif kind == "fully_shard":
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import fully_shard

        fully_shard(model, mesh=init_device_mesh("cpu", (world,)))
    elif kind == "ZeRO-3" and rank == 1:  # as DeepSpeed leaves a parameter, here on one rank alone
        model[0].weight.ds_shape = model[0].weight.shape
        model[0].weight.data = torch.empty(0)
    raised = []
    for call in (replicate, broadcast_parameters, replicate):
        with pytest.raises(ValueError, match="--no-sync") as caught:
            call(model)
        raised.append(str(caught.value))
    if kind != "ZeRO-3":
        with pytest.raises(ValueError, match="--no-sync"):
            average_gradients(model)
    return raised


KINDS = ["FSDP", "FSDP, original parameters", "part of FSDP", "fully_shard", "ZeRO-3"]


@pytest.mark.parametrize("kind", KINDS)
def test_sharded_parameters_are_refused_on_every_rank(pool: Any, kind: str) -> None:
    if kind == "fully_shard" and not hasattr(torch.distributed.fsdp, "fully_shard"):
        pytest.skip("torch has no fully_shard before 2.6")
    first, *others = pool.run(2, shard, kind)
    assert len({*first, *others[0]}) == 1
    assert f"rank {1 if kind == 'ZeRO-3' else 0}" in first[0]


def differ_in_size(rank: int, world: int) -> str:
    with pytest.raises(ValueError, match="differ in size") as caught:
        replicate(nn.Linear(2 + rank, 3))
    return str(caught.value)


def test_models_of_different_size_are_refused_on_every_rank(pool: Any) -> None:
    assert len(set(pool.run(2, differ_in_size))) == 1


class OfAllKinds(nn.Module):
    """Parameters of every kind that a hook could meet."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((3,), float(seed + 1)))
        self.small = nn.Parameter(torch.full((3,), float(seed + 1), dtype=torch.bfloat16))
        self.quantized = nn.Parameter(torch.full((4,), seed + 1, dtype=torch.uint8), requires_grad=False)
        self.frozen = nn.Parameter(torch.full((3,), float(seed + 1)), requires_grad=False)
        self.phase = nn.Parameter(torch.full((3,), complex(seed + 1, 1)))
        self.tied = self.weight


def all_kinds(rank: int, world: int) -> tuple[list[Tensor], list[bool], list[Tensor]]:
    model = OfAllKinds(rank)
    replicate(model)
    values = [p.detach().clone() for p in model.parameters()]
    (rank * (model.weight.sum() + model.small.float().sum() + (model.phase * 1j).real.sum())).backward()
    return values, [p.requires_grad for p in model.parameters()], plain.gradients(model)


def test_parameters_of_every_kind(pool: Any) -> None:
    expected = list(OfAllKinds(0).parameters())
    for values, trained, gradients in pool.run(2, all_kinds):
        assert all(torch.equal(value, e) for value, e in zip(values, expected, strict=True))
        assert trained == [True, True, False, False, True]
        weight, small, quantized, frozen, phase = gradients
        assert torch.equal(weight, torch.full((3,), 0.5))
        assert torch.equal(small, torch.full((3,), 0.5, dtype=torch.bfloat16))
        assert quantized is None
        assert frozen is None
        assert torch.equal(phase, torch.full((3,), complex(0, -0.5)))


def test_cpu_parameters_travel_by_the_current_cuda_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dist, "get_backend", lambda _: "nccl")
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 3)
    ranks = membership.Ranks(0, 2, None, True)
    assert collectives.transport(ranks, torch.device("cpu")) == torch.device("cuda:3")
    assert collectives.transport(ranks, torch.device("cuda:1")) == torch.device("cuda:1")

"""Scoring against pairs one by one: the same energies, and the same gradients of weights, contexts and actions."""

import copy
import gc
import warnings
import weakref
from typing import Any

import energy_kinds as kinds
import energy_zoo as zoo
import more_kinds as more
import plain_reference as plain
import pytest
import torch
from check_scores import check_equal, make_candidates, masked
from energy_losses.ranks import average_gradients
from energy_losses.scoring import energy_matrix, materialised
from energy_zoo import EXACT
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

SHAPES = [(3, 3), (2, 5), (4, 2), (1, 4), (3, 1), (1, 1), (2, 3)]
KINDS = tuple(dict.fromkeys((zoo.UNDER_TEST, *zoo.KINDS)))


@pytest.mark.parametrize("has_mask", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_equals_pairs(kind: type[zoo.CrossEnergy], has_mask: bool) -> None:
    model = zoo.build(kind)
    for rows, count in SHAPES:
        batch = masked(plain.make_batch(rows), has_mask)
        check_equal(model, batch, make_candidates((count,)))
        check_equal(model, batch, make_candidates((rows, count)))


@pytest.mark.parametrize("kind", kinds.KINDS, ids=lambda kind: kind.__name__)
def test_further_kinds_equal_pairs(kind: Any) -> None:
    model = zoo.build(kind)
    for rows, count, own, has_mask, chunk in [
        (3, 4, False, True, None), (3, 4, False, False, 2), (2, 3, True, True, None), (2, 5, True, False, 2),
        (1, 4, False, True, None), (3, 1, False, True, None), (2, 7, False, True, 3), (1, 1, True, True, None),
        (2, 2, False, True, 1),
    ]:  # fmt: skip
        batch = masked(plain.make_batch(rows), has_mask)
        check_equal(model, batch, make_candidates((rows, count) if own else (count,)), chunk=chunk)


@pytest.mark.parametrize("kind", kinds.STAND_IN, ids=lambda kind: kind.__name__)
def test_nothing_of_these_is_materialised(kind: Any) -> None:
    model, batch = zoo.build(kind), plain.make_batch(3)
    energy_matrix(model, batch.h, make_candidates((5,)), batch.mask)
    assert materialised(model) == {}


@pytest.mark.parametrize("kind", [zoo.CrossEnergy, zoo.TwoLayerEnergy, kinds.own_attention, kinds.softmax_by_hand])
def test_nothing_of_the_contexts_is_kept_twice(kind: Any) -> None:
    model, batch = zoo.build(kind), plain.make_batch(3, s=11)
    alone = saved_with(11, lambda: model(batch.h, batch.a, batch.mask))
    assert saved_with(11, lambda: energy_matrix(model, batch.h, make_candidates((24,)), batch.mask)) <= alone


def test_queries_of_the_models_own_are_not_one_per_pair() -> None:
    model, batch = zoo.build(more.queries_of_its_own), plain.make_batch(3, s=11)  # type: ignore[attr-defined]
    alone = saved(11, lambda: model(batch.h, batch.a, batch.mask))
    found = saved(11, lambda: energy_matrix(model, batch.h, make_candidates((24,)), batch.mask))
    assert max(x.numel() for x in found) == max(x.numel() for x in alone)


def saved_with(size: int, call: Any) -> int:
    """How many tensors, in different memory, that have a dimension of this size are saved for the backward pass."""
    return len({x.untyped_storage().data_ptr() for x in saved(size, call)})


def saved(size: int, call: Any) -> list[Tensor]:
    kept: list[Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda x: kept.append(x) or x, lambda x: x):  # type: ignore[func-returns-value]
        output = call()
    assert output is not None
    return [x for x in kept if size in x.shape]


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("kind", KINDS)
def test_validation(kind: type[zoo.CrossEnergy], context: Any) -> None:
    model, batch = zoo.build(kind).eval(), plain.make_batch(3)
    expected = plain.energies(model, batch, make_candidates((5,)))
    with context():
        rows = batch.h.clone()
        for chunk in (None, 2):
            found = energy_matrix(model, rows, make_candidates((5,)), batch.mask, chunk=chunk)
            assert torch.allclose(found, expected, atol=EXACT, rtol=0)


def test_the_dtype_is_that_of_the_first_floating_point_parameter() -> None:
    model, batch = zoo.build(zoo.CrossEnergy), plain.make_batch(3)
    expected = plain.energies(model, batch, batch.a)
    model._parameters = {"codes": nn.Parameter(torch.zeros(1, dtype=torch.int8), requires_grad=False)}
    assert torch.allclose(energy_matrix(model, batch.h, batch.a, batch.mask), expected, atol=EXACT, rtol=0)


def test_each_pair_has_its_own_dropout() -> None:
    model, batch = zoo.build(zoo.CrossEnergy, dropout=0.5), plain.make_batch(2)
    batch.h[1], batch.mask[1] = batch.h[0].clone(), batch.mask[0].clone()
    energies = energy_matrix(model, batch.h, make_candidates((1,)).expand(4, -1, -1), batch.mask)
    assert len(energies.flatten().unique()) == 8
    assert materialised(model) == {}


def test_the_users_own_hooks_see_the_shapes_they_know() -> None:
    model, batch = zoo.build(zoo.CrossEnergy), plain.make_batch(2)
    seen: list[Any] = []
    for module in (model.context, model.cross):
        module.register_forward_hook(lambda _, inputs, __: seen.append(inputs[0].shape[0]))
    energy_matrix(model, batch.h, make_candidates((5,)), batch.mask)
    assert seen == [10, 10]


def test_backward_hooks_on_modules() -> None:
    model, batch = zoo.build(zoo.CrossEnergy), plain.make_batch(2)
    seen: list[Any] = []
    for module in (model, model.context[0], model.cross, model.action):
        module.register_full_backward_hook(lambda _, __, gradients: seen.append(gradients[0].shape[1:]))
    check_equal(model, batch, make_candidates((5,)))
    assert torch.Size([5, 8]) in seen


def test_nothing_is_left_behind() -> None:
    model, batch = zoo.build(zoo.BatchNormEnergy, dropout=0.3), plain.make_batch(3)
    model.head.eval()
    flags, weights = [m.training for m in model.modules()], copy.deepcopy(model.state_dict())
    energy_matrix(model.eval(), batch.h, batch.a, batch.mask, chunk=2).sum().backward()
    model.train()
    model.head.eval()
    assert [m.training for m in model.modules()] == flags
    assert all(torch.equal(model.state_dict()[name], value) for name, value in weights.items())
    gone = weakref.ref(model)
    del model
    gc.collect()
    assert gone() is None


def test_a_compiled_model_is_scored_through_its_original() -> None:
    model, batch = zoo.build(zoo.CrossEnergy), plain.make_batch(3)
    compiled = torch.compile(model, backend="eager")
    pairs = batch.h, batch.a, batch.mask
    before = compiled(*pairs)
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        found = energy_matrix(compiled, batch.h, make_candidates((5,)), batch.mask)
    assert torch.allclose(found, plain.energies(model, batch, make_candidates((5,))), atol=EXACT, rtol=0)
    assert torch.allclose(compiled(*pairs), before, atol=EXACT, rtol=0)


def test_a_model_that_is_compiled_in_place_is_scored_through_its_original() -> None:
    model, batch = zoo.build(zoo.CrossEnergy), plain.make_batch(3)
    expected = plain.energies(model, batch, make_candidates((5,)))
    model.compile(backend="eager")
    for chunk in (None, 2):
        found = energy_matrix(model, batch.h, make_candidates((5,)), batch.mask, chunk=chunk)
        assert torch.allclose(found, expected, atol=EXACT, rtol=0)
    assert materialised(model) == {}


def test_a_model_with_a_compiled_part_gets_plain_pairs_and_says_so_once() -> None:
    model, batch = zoo.build(zoo.CrossEnergy), plain.make_batch(3)
    model.context = torch.compile(model.context, backend="eager")
    with pytest.warns(RuntimeWarning, match="compiled"):
        energy_matrix(model, batch.h, batch.a, batch.mask)
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        found = energy_matrix(model, batch.h, make_candidates((8,)), batch.mask)
    assert torch.allclose(found, plain.energies(model, batch, make_candidates((8,))), atol=EXACT, rtol=0)
    assert list(materialised(model)) == ["everything (a part is compiled)"]


def product_dtype() -> torch.dtype:
    """Shows whether autocast is on."""
    return (torch.ones(1, 1) @ torch.ones(1, 1)).dtype


@pytest.mark.parametrize("chunk", [None, 2])
def test_under_autocast(chunk: int | None) -> None:
    model, batch, candidates = zoo.build(zoo.CrossEnergy).float(), plain.make_batch(3), make_candidates((5,))
    expected = plain.energies(model.double(), batch, candidates)
    model.float()
    spread = expected.amax() - expected.amin()
    with torch.autocast("cpu", torch.bfloat16):
        found = energy_matrix(model, batch.h, candidates, batch.mask, chunk=chunk)
        assert product_dtype() == torch.bfloat16
    found.sum().backward()
    assert materialised(model) == {}
    assert 0 < (found - expected).abs().max() < 0.1 * spread


def test_in_16_bits() -> None:
    model, batch, candidates = zoo.build(zoo.CrossEnergy), plain.make_batch(3), make_candidates((5,))
    expected = plain.energies(model, batch, candidates)
    found = energy_matrix(model.bfloat16(), batch.h, candidates, batch.mask)
    assert found.dtype == torch.bfloat16
    assert (found - expected).abs().max() < 0.1 * (expected.amax() - expected.amin())


def test_inputs_need_not_be_contiguous() -> None:
    model, batch = zoo.build(), plain.make_batch(3)
    strided = plain.Batch(
        batch.h.transpose(0, 2).contiguous().transpose(0, 2), batch.a, batch.mask.t().contiguous().t()
    )
    wide = torch.cat([make_candidates((4,))] * 2, dim=-1)[..., :3]
    assert not strided.h.is_contiguous()
    check_equal(model, strided, wide)
    check_equal(model, strided, wide, chunk=3)


def test_shapes_are_checked() -> None:
    batch = plain.make_batch(3)
    with pytest.raises(ValueError, match=r"expected h \[B, S, D\]"):
        energy_matrix(zoo.build(), batch.h, make_candidates((2, 4)), batch.mask)


def ddp_step(rank: int, world: int, kind: Any, chunk: int | None, options: dict[str, bool]) -> list[Tensor | None]:
    model = DistributedDataParallel(zoo.build(kind, seed=rank), **options)
    batch = plain.share(plain.make_batch(6), [3, 3], rank)
    for _ in range(2):
        model.zero_grad()
        energies = energy_matrix(model, batch.h, make_candidates((7,)), batch.mask, chunk=chunk)
        energies.square().mean().backward()
    before = plain.gradients(model)
    average_gradients(model)
    assert all(x is y is None or torch.equal(x, y) for x, y in zip(before, plain.gradients(model), strict=True))
    return before


@pytest.mark.parametrize("option", ["", "find_unused_parameters", "static_graph", "gradient_as_bucket_view"])
@pytest.mark.parametrize(("kind", "chunk"), [(zoo.CrossEnergy, None), (zoo.CrossEnergy, 3), (zoo.JointEnergy, None)])
def test_ddp_reduces_the_gradients(pool: Any, kind: Any, chunk: int | None, option: str) -> None:
    model, batch = zoo.build(kind), plain.make_batch(6)
    loss = plain.energies(model, batch, make_candidates((7,))).square().mean()
    expected = plain.reference_gradients(model, loss)
    for found in pool.run(2, ddp_step, kind, chunk, {option: True} if option else {}):
        assert plain.distance(found, expected) < EXACT

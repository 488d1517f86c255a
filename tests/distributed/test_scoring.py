"""Folded scoring against pairs one by one: the same energies and gradients, or the plain path."""

import copy
import gc
import itertools
import random
import warnings
import weakref
from typing import Any

import energy_zoo as zoo
import plain_reference as plain
import pytest
import torch
from energy_losses import scoring
from energy_losses.ranks import average_gradients
from energy_losses.scoring import energy_matrix, is_folded
from energy_zoo import EXACT
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

SHAPES = [(3, 3), (2, 5), (4, 2), (1, 4), (3, 1), (1, 1), (2, 3)]


UNDER_TEST = tuple(dict.fromkeys((zoo.UNDER_TEST, *zoo.FOLDABLE)))


def make_candidates(shape: tuple[int, ...], steps: int = 4, da: int = 3) -> Tensor:
    generator = torch.Generator().manual_seed(5)
    return torch.rand(*shape, steps, da, generator=generator, dtype=torch.float64) * 2 - 1


def check_equal(model: nn.Module, batch: plain.Batch, candidates: Tensor, **options: Any) -> None:
    """Energies, and the gradient of a sum in which every energy has another weight."""
    found = energy_matrix(model, batch.h, candidates, batch.mask, **options)
    listed = candidates if candidates.dim() == 3 else [list(own) for own in candidates]
    expected = plain.energies(model, batch, listed)
    assert found.shape == expected.shape
    assert torch.allclose(found, expected, rtol=0, atol=EXACT)
    weights = torch.linspace(-1, 2, expected.numel(), dtype=torch.float64).view_as(expected)
    ours, theirs = (plain.reference_gradients(model, (weights * x).sum()) for x in (found, expected))
    assert plain.distance(ours, theirs) < EXACT


def masked(batch: plain.Batch, has_mask: bool) -> plain.Batch:
    return batch if has_mask else plain.Batch(batch.h, batch.a, None)


@pytest.mark.parametrize("has_mask", [True, False])
@pytest.mark.parametrize("kind", UNDER_TEST)
def test_folded_equals_pairs(kind: type[zoo.CrossEnergy], has_mask: bool) -> None:
    model = zoo.build(kind)
    for rows, count in SHAPES:
        batch = masked(plain.make_batch(rows), has_mask)
        check_equal(model, batch, make_candidates((count,)))
        check_equal(model, batch, make_candidates((rows, count)))
        assert is_folded(model)


@pytest.mark.parametrize("rows_count", SHAPES)
@pytest.mark.parametrize("kind", UNDER_TEST)
def test_the_shape_of_the_first_call_does_not_matter(kind: type[zoo.CrossEnergy], rows_count: tuple[int, int]) -> None:
    rows, count = rows_count
    model = zoo.build(kind)
    check_equal(model, plain.make_batch(rows), make_candidates((count,)))
    assert is_folded(model)
    check_equal(model, plain.make_batch(3), make_candidates((4,)))


@pytest.mark.parametrize("weights", ["trained", "fresh", "zero head"])
@pytest.mark.parametrize("kind", zoo.NOT_FOLDABLE)
def test_models_that_cannot_be_folded_are_scored_plainly(kind: type[zoo.CrossEnergy], weights: str) -> None:
    for (rows, count), has_mask, own in itertools.product(SHAPES, (True, False), (True, False)):
        model = zoo.build(kind) if weights == "trained" else fresh(kind, zero_head=weights == "zero head")
        batch = masked(plain.make_batch(rows), has_mask)
        candidates = make_candidates((rows, count) if own else (count,))
        with pytest.warns(RuntimeWarning, match=f"{kind.__name__} pair by pair.*here {rows} x {count} times"):
            energy_matrix(model, batch.h, candidates, batch.mask)
        assert not is_folded(model)
        if weights == "trained":
            check_equal(model, batch, candidates, chunk=2)  # without a second warning


@pytest.mark.parametrize("kind", zoo.NOT_FOLDABLE)
def test_folding_them_would_be_wrong(kind: type[zoo.CrossEnergy]) -> None:
    model, batch = zoo.build(kind), plain.make_batch(3)
    candidates = make_candidates((5,))
    try:
        forced = scoring._score_folded(model, batch.h, candidates[None], batch.mask, [])
    except (RuntimeError, NotImplementedError):
        return
    assert (forced - plain.energies(model, batch, candidates)).abs().max() > 1e-4


@pytest.mark.parametrize(
    "kind", [zoo.CheckpointedEnergy, zoo.RepeatingEnergy, zoo.BatchNormEnergy, zoo.TrainingBranchEnergy]
)
@pytest.mark.parametrize(("rows", "count"), [(3, 6), (2, 2), (1, 4)])
def test_models_that_only_a_step_would_show(kind: type[zoo.CrossEnergy], rows: int, count: int) -> None:
    model, batch = zoo.build(kind), plain.make_batch(rows)
    with pytest.warns(RuntimeWarning, match="pair by pair"):
        energy_matrix(model, batch.h, batch.a, batch.mask)
    check_equal(model, batch, make_candidates((count,)))


def test_a_verdict_of_a_fresh_model_holds_when_it_is_trained() -> None:
    model, batch = fresh(zoo.GatedEnergy, zero_head=True), plain.make_batch(3)
    batch.mask[:, -2:] = True
    batch.mask[:, 0] = False
    energy_matrix(model, batch.h, batch.a, batch.mask)
    assert is_folded(model)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.4)
    check_equal(model, batch, make_candidates((5,)))
    check_equal(model, batch, make_candidates((5,)), chunk=2)


def test_the_check_changes_no_buffer_and_no_gradient() -> None:
    model, batch = zoo.build(zoo.CountingEnergy), plain.make_batch(3)
    scoring._find_method(model, batch.h, batch.a[None], batch.mask, True)
    assert model.offset == 1.0
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("kind", zoo.FOLDABLE)
def test_the_first_call_may_be_a_validation(kind: type[zoo.CrossEnergy], context: Any) -> None:
    model, batch = zoo.build(kind).eval(), plain.make_batch(3)
    with context():
        rows = batch.h.clone()
        found = energy_matrix(model, rows, make_candidates((5,)), batch.mask)
    assert is_folded(model)
    assert torch.allclose(found, plain.energies(model, batch, make_candidates((5,))), atol=EXACT, rtol=0)
    model.train()
    check_equal(model, batch, make_candidates((5,)))


def test_the_dtype_is_that_of_the_first_floating_point_parameter() -> None:
    model, batch = zoo.build(zoo.CrossEnergy), plain.make_batch(3)
    expected = plain.energies(model, batch, batch.a)
    model._parameters = {"codes": nn.Parameter(torch.zeros(1, dtype=torch.int8), requires_grad=False)}
    assert torch.allclose(energy_matrix(model, batch.h, batch.a, batch.mask), expected, atol=EXACT, rtol=0)


@pytest.mark.parametrize("zero_head", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("kind", zoo.FOLDABLE)
def test_fresh_models_are_folded(kind: type[zoo.CrossEnergy], dtype: torch.dtype, zero_head: bool) -> None:
    model = fresh(kind, zero_head=zero_head).to(dtype)
    batch = plain.make_batch(3)
    energy_matrix(model, batch.h, batch.a, batch.mask)
    assert is_folded(model)


def fresh(kind: type[zoo.CrossEnergy], *, zero_head: bool) -> zoo.CrossEnergy:
    """Weights as a new model has them, energies that hardly differ between candidates."""
    torch.manual_seed(0)
    model = kind().double()
    with torch.no_grad():
        model.head[-1].weight.mul_(0.0 if zero_head else 1e-3)
    return model


@pytest.mark.parametrize("chunk", [1, 3, 7, 100])
@pytest.mark.parametrize("kind", UNDER_TEST)
def test_chunks_change_nothing(kind: type[zoo.CrossEnergy], chunk: int) -> None:
    model = zoo.build(kind)
    for rows in (1, 3):
        check_equal(model, plain.make_batch(rows), make_candidates((7,)), chunk=chunk)
        check_equal(model, plain.make_batch(rows), make_candidates((rows, 7)), chunk=chunk)
    check_equal(model, masked(plain.make_batch(3), False), make_candidates((7,)), chunk=chunk)


@pytest.mark.parametrize("chunk", [1, 2, None])
def test_each_context_is_encoded_once(chunk: int | None) -> None:
    model, batch = zoo.build(zoo.CrossEnergy), plain.make_batch(3)
    energy_matrix(model, batch.h, batch.a, batch.mask)
    positions: list[int] = []
    model.context.register_forward_hook(lambda _, inputs, __: positions.append(inputs[0].shape[:2].numel()))
    energy_matrix(model, batch.h, make_candidates((9,)), batch.mask, chunk=chunk).sum().backward()
    assert positions[0] == batch.h.shape[:2].numel()
    assert all(count == 3 for count in positions[1:])  # a stand-in position per row, whose keys are not used


def test_chunks_draw_the_same_dropout_again_in_the_backward_pass() -> None:
    model, batch = zoo.build(zoo.CrossEnergy, dropout=0.5), plain.make_batch(2)
    energy_matrix(model, batch.h, batch.a, batch.mask)
    candidates = make_candidates((5,)).requires_grad_()
    torch.manual_seed(1)
    chunked = energy_matrix(model, batch.h, candidates, batch.mask, chunk=2)
    (found,) = torch.autograd.grad(chunked.sum(), candidates)
    torch.manual_seed(1)
    with torch.no_grad():
        again = energy_matrix(model, batch.h, candidates, batch.mask, chunk=2)
    assert torch.equal(chunked, again)
    shifted = candidates.detach().clone()
    shifted[4, 2, 1] += 1e-6
    torch.manual_seed(1)
    slope = (energy_matrix(model, batch.h, shifted, batch.mask, chunk=2).sum() - chunked.sum()) / 1e-6
    assert abs(slope - found[4, 2, 1]) < 1e-5


def test_positions_that_every_row_masks_are_left_out() -> None:
    model, batch = zoo.build(zoo.CrossEnergy), plain.make_batch(3)
    longer = plain.Batch(
        torch.cat([batch.h, torch.full_like(batch.h, 9.0)], dim=1),
        batch.a,
        torch.cat([batch.mask, torch.ones_like(batch.mask)], dim=1),
    )
    expected = energy_matrix(model, batch.h, batch.a, batch.mask)
    seen: list[int] = []
    model.context.register_forward_hook(lambda _, inputs, __: seen.append(inputs[0].shape[1]))
    assert torch.allclose(energy_matrix(model, longer.h, longer.a, longer.mask), expected, atol=EXACT, rtol=0)
    assert seen == [int((~batch.mask).sum(1).max())]


def test_positions_stay_where_a_model_counts_them() -> None:
    class CountingEnergy(zoo.CrossEnergy):
        def attend(self, steps: Tensor, context: Tensor, mask: Tensor | None) -> Tensor:
            return super().attend(steps, context, mask) / context.shape[1]

    model, batch = zoo.build(CountingEnergy), plain.make_batch(3)
    batch.mask[:, -2:] = True
    batch.mask[:, 0] = False
    check_equal(model, batch, batch.a)
    assert is_folded(model)


@pytest.mark.parametrize("kind", zoo.FOLDABLE)
def test_nothing_is_left_behind(kind: type[zoo.CrossEnergy]) -> None:
    model = zoo.build(kind, dropout=0.3)
    model.head.eval()
    batch = plain.make_batch(3)
    flags, state = [m.training for m in model.modules()], torch.get_rng_state()
    weights = copy.deepcopy(model.state_dict())
    model.eval()
    for m, flag in zip(model.modules(), flags, strict=True):
        m.training = flag
    scoring._find_method(model, batch.h, batch.a[None], batch.mask, True)
    assert torch.equal(torch.get_rng_state(), state)
    energy_matrix(model, batch.h, batch.a, batch.mask, chunk=2).sum().backward()
    assert [m.training for m in model.modules()] == flags
    assert model.state_dict().keys() == weights.keys()
    assert all(torch.equal(model.state_dict()[name], value) for name, value in weights.items())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


class FailingEnergy(zoo.CrossEnergy):
    """Raises at a chosen one of its calls from now on."""

    calls_left = -1

    def forward(self, h: Tensor, a: Tensor, pad_mask: Tensor | None = None) -> Any:
        self.calls_left -= 1
        if self.calls_left == 0:
            raise ArithmeticError("in the model")
        return super().forward(h, a, pad_mask)


def traces(model: nn.Module) -> list[Any]:
    """All that scoring touches and must give back."""
    hooks = [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules()]
    return [[m.training for m in model.modules()], hooks, torch.is_grad_enabled(), product_dtype()]


def product_dtype() -> torch.dtype:
    """Shows whether autocast is on."""
    return (torch.ones(1, 1) @ torch.ones(1, 1)).dtype


@pytest.mark.parametrize("call", [1, 2, 3])
def test_an_error_in_a_pass_reaches_the_caller_and_leaves_nothing(call: int) -> None:
    """The first chunk, the second, and the second again in the backward pass."""
    model, batch = zoo.build(FailingEnergy, dropout=0.3), plain.make_batch(3)
    model.head.eval()
    before = traces(model)
    energy_matrix(model, batch.h, batch.a, batch.mask)
    model.calls_left = call
    with pytest.raises(ArithmeticError, match="in the model"):
        energy_matrix(model, batch.h, make_candidates((4,)), batch.mask, chunk=2).sum().backward()
    assert traces(model) == before


@pytest.mark.parametrize("call", [1, 2, 3, 4])
def test_an_error_in_the_check_stays_inside_and_leaves_nothing(call: int) -> None:
    model, batch = zoo.build(FailingEnergy, dropout=0.3), plain.make_batch(3)
    model.head.eval()
    before, state = traces(model), torch.get_rng_state()
    model.calls_left = call
    scoring._find_method(model, batch.h, batch.a[None], batch.mask, True)
    assert traces(model) == before
    assert torch.equal(torch.get_rng_state(), state)


def test_the_users_own_hooks_see_the_shapes_they_know() -> None:
    model, batch = zoo.build(zoo.CrossEnergy), plain.make_batch(2)
    seen: list[torch.Size] = []
    model.cross.register_forward_hook(lambda _, __, outputs: seen.append(outputs[0].shape))
    energy_matrix(model, batch.h, make_candidates((5,)), batch.mask)
    assert seen[-1] == (10, 4, 8)


def test_a_verdict_dies_with_its_model() -> None:
    model, batch = zoo.build(), plain.make_batch(2)
    energy_matrix(model, batch.h, batch.a, batch.mask)
    gone = weakref.ref(model)
    del model
    gc.collect()
    assert gone() is None


def test_a_compiled_model_is_scored_through_its_original() -> None:
    model, batch = zoo.build(zoo.CrossEnergy), plain.make_batch(3)
    compiled = torch.compile(model, backend="eager")
    pairs = batch.h, batch.a, batch.mask
    before = compiled(*pairs)
    check_equal(model, batch, batch.a)
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        found = energy_matrix(compiled, batch.h, make_candidates((5,)), batch.mask)
    assert torch.allclose(found, plain.energies(model, batch, make_candidates((5,))), atol=EXACT, rtol=0)
    assert is_folded(compiled)
    assert torch.allclose(compiled(*pairs), before, atol=EXACT, rtol=0)
    assert torch.allclose(before, model(*pairs), atol=EXACT, rtol=0)


def test_a_model_that_is_compiled_in_place_is_scored_plainly() -> None:
    model, batch = zoo.build(zoo.CrossEnergy), plain.make_batch(3)
    pairs = batch.h, batch.a, batch.mask
    eager = model(*pairs)
    model.compile(backend="eager")
    before = model(*pairs)
    with pytest.warns(RuntimeWarning, match="compiled"):
        energy_matrix(model, batch.h, batch.a, batch.mask)
    check_equal(model, batch, make_candidates((5,)), chunk=2)
    assert torch.allclose(before, eager, atol=EXACT, rtol=0)
    assert torch.allclose(model(*pairs), before, atol=EXACT, rtol=0)


def test_a_model_with_a_compiled_part_is_scored_plainly() -> None:
    model, batch = zoo.build(zoo.CrossEnergy), plain.make_batch(3)
    model.context = torch.compile(model.context, backend="eager")
    with pytest.warns(RuntimeWarning, match="compiled"):
        energy_matrix(model, batch.h, batch.a, batch.mask)
    check_equal(model, batch, make_candidates((5,)))


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
    assert is_folded(model)
    assert 0 < (found - expected).abs().max() < 0.1 * spread


def test_inputs_need_not_be_contiguous() -> None:
    model, batch = zoo.build(), plain.make_batch(3)
    strided = plain.Batch(
        batch.h.transpose(0, 2).contiguous().transpose(0, 2),
        batch.a,
        batch.mask.t().contiguous().t(),
    )
    wide = torch.cat([make_candidates((4,))] * 2, dim=-1)[..., :3]
    assert not strided.h.is_contiguous()
    assert not wide.is_contiguous()
    check_equal(model, strided, wide)
    check_equal(model, strided, wide, chunk=3)


def test_gradients_reach_contexts_and_candidates() -> None:
    model, batch = zoo.build(), plain.make_batch(3)
    results = []
    for score in (
        lambda h, a: energy_matrix(model, h, a, batch.mask),
        lambda h, a: energy_matrix(model, h, a, batch.mask, chunk=2),
        lambda h, a: plain.energies(model, plain.Batch(h, a, batch.mask), a),
    ):
        h, a = batch.h.clone().requires_grad_(), make_candidates((5,)).requires_grad_()
        (score(h, a) * torch.arange(15).view(3, 5)).sum().backward()
        results.append(torch.cat([h.grad.flatten(), a.grad.flatten()]))
    assert torch.allclose(results[0], results[2], atol=EXACT)
    assert torch.allclose(results[1], results[2], atol=EXACT)


def test_shapes_are_checked() -> None:
    batch = plain.make_batch(3)
    with pytest.raises(ValueError, match=r"expected h \[B, S, D\]"):
        energy_matrix(zoo.build(), batch.h, make_candidates((2, 4)), batch.mask)


def test_any_shape_and_chunk() -> None:
    random.seed(0)
    model = zoo.build()
    for _ in range(25):
        rows, count = random.randint(1, 5), random.randint(1, 9)
        own = random.random() < 0.5
        batch = masked(plain.make_batch(rows, seed=rows, s=random.randint(1, 6)), random.random() < 0.5)
        chunk = random.choice([None, random.randint(1, count)])
        check_equal(model, batch, make_candidates((rows, count) if own else (count,)), chunk=chunk)


def ddp_step(rank: int, world: int, chunk: int | None) -> list[Tensor | None]:
    model = DistributedDataParallel(zoo.build(seed=rank))
    batch = plain.share(plain.make_batch(6), [3, 3], rank)
    for _ in range(2):
        model.zero_grad()
        energies = energy_matrix(model, batch.h, make_candidates((7,)), batch.mask, chunk=chunk)
        energies.square().mean().backward()
    before = plain.gradients(model)
    average_gradients(model)
    assert all(torch.equal(x, y) for x, y in zip(before, plain.gradients(model), strict=True))
    return before


@pytest.mark.parametrize("chunk", [None, 3])
def test_ddp_reduces_the_gradients(pool: Any, chunk: int | None) -> None:
    model, batch = zoo.build(), plain.make_batch(6)
    loss = plain.energies(model, batch, make_candidates((7,))).square().mean()
    expected = plain.reference_gradients(model, loss)
    for found in pool.run(2, ddp_step, chunk):
        assert plain.distance(found, expected) < EXACT

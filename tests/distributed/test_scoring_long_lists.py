"""Long lists of candidates: chunks, what they compute once, and models that must not be split."""

import functools
import itertools
import random
import sys
from typing import Any

import energy_kinds as kinds
import energy_zoo as zoo
import more_kinds as more
import plain_reference as plain
import pytest
import torch
from check_scores import check_equal, make_candidates, masked
from energy_losses import pair_axes, pair_rules, pairs, scoring
from energy_losses.scoring import energy_matrix, materialised
from torch import Tensor
from torch.utils.checkpoint import checkpoint


@pytest.mark.parametrize("chunk", [1, 3, 7, 100])
@pytest.mark.parametrize("kind", zoo.KINDS)
def test_chunks_change_nothing(kind: type[zoo.CrossEnergy], chunk: int) -> None:
    model = zoo.build(kind)
    for rows, own in itertools.product((1, 3), (True, False)):
        check_equal(model, plain.make_batch(rows), make_candidates((rows, 7) if own else (7,)), chunk=chunk)
    check_equal(model, masked(plain.make_batch(3), False), make_candidates((7,)), chunk=chunk)


def counted(model: Any, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Rows that the context encoder's first layer really computes, forward and in recomputations."""
    rows: list[int] = []
    weight, linear = model.context[0].weight, torch.nn.functional.linear

    def count(func: Any, x: Any, *weights: Any, **options: Any) -> Any:
        if weights[0] is weight:
            rows.append(x.kept[..., 0].numel())
        return pair_axes.linear(func, x, *weights, **options)

    assert linear is torch.nn.functional.linear
    monkeypatch.setitem(pair_rules.RULES, "linear", count)
    return rows


@pytest.mark.parametrize("chunk", [1, 2, None])
def test_each_context_is_encoded_once(chunk: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    model, batch = zoo.build(zoo.CrossEnergy), plain.make_batch(3)
    rows = counted(model, monkeypatch)
    energy_matrix(model, batch.h, make_candidates((9,)), batch.mask, chunk=chunk).sum().backward()
    assert rows == [batch.h.shape[:2].numel()]


@pytest.mark.parametrize(("checks", "passes"), [(True, 4), (False, 1)])
def test_a_check_for_finite_values_does_not_forbid_chunks(checks: bool, passes: int) -> None:
    """Of finite candidates it says the same in each chunk; what else is reduced over all candidates does not."""
    lengths = []

    class CheckingEnergy(zoo.CrossEnergy):
        def attend(self, steps: Tensor, context: Tensor, mask: Tensor | None) -> Tensor:
            assert (torch.isfinite(steps) if checks else steps < 1e9).all()
            lengths.append(len(steps))
            return super().attend(steps, context, mask)

    model, batch = zoo.build(CheckingEnergy), plain.make_batch(2)
    with torch.no_grad():
        energy_matrix(model, batch.h, make_candidates((8,)), batch.mask, chunk=2)
    assert lengths == [16 // passes] * passes


def test_stochastic_depth_may_take_another_way_in_each_chunk() -> None:
    class StochasticEnergy(zoo.CrossEnergy):
        def attend(self, steps: Tensor, context: Tensor, mask: Tensor | None) -> Tensor:
            if torch.rand(()) < 0.5:
                context = context + context.tanh()
            return super().attend(steps, context, mask)

    model, batch, candidates = zoo.build(StochasticEnergy), plain.make_batch(2), make_candidates((8,))
    for seed in range(6):
        torch.manual_seed(seed)
        found = energy_matrix(model, batch.h, candidates, batch.mask, chunk=2)
        torch.manual_seed(seed)
        expected = torch.cat([plain.energies(model, batch, part) for part in candidates.split(2)], 1)
        assert torch.allclose(found, expected, atol=zoo.EXACT, rtol=0)
        ours, theirs = (plain.reference_gradients(model, x.square().sum()) for x in (found, expected))
        assert plain.distance(ours, theirs) < zoo.EXACT


def test_chunks_draw_the_same_dropout_again_in_the_backward_pass() -> None:
    model, batch = zoo.build(zoo.CrossEnergy, dropout=0.5), plain.make_batch(2)
    candidates = make_candidates((5,)).requires_grad_()
    torch.manual_seed(1)
    chunked = energy_matrix(model, batch.h, candidates, batch.mask, chunk=2)
    (found,) = torch.autograd.grad(chunked.sum(), candidates)
    shifted = candidates.detach().clone()
    shifted[4, 2, 1] += 1e-6
    torch.manual_seed(1)
    difference = (energy_matrix(model, batch.h, shifted, batch.mask, chunk=2).sum() - chunked.sum()) / 1e-6
    assert abs(difference - found[4, 2, 1]) < 1e-5


@pytest.mark.parametrize("kind", [kinds.film_of_contexts, zoo.JointEnergy])  # type: ignore[attr-defined]
def test_contexts_for_each_pair_are_no_more_than_todays_loss_holds(kind: Any) -> None:
    model, batch = zoo.build(kind), plain.make_batch(3)
    sizes: list[int] = []
    model.head.register_forward_pre_hook(lambda _, inputs: sizes.append(len(inputs[0])))
    energy_matrix(model, batch.h, make_candidates((20,)), batch.mask)
    assert max(sizes) <= 9
    assert materialised(model) != {}


@pytest.mark.parametrize(
    "kind",
    [zoo.BatchNormEnergy, kinds.centred, kinds.softmax_over_the_batch, kinds.scaled_by_the_batch],  # type: ignore[attr-defined]
)
def test_pairs_that_depend_on_each_other_are_never_split(kind: Any) -> None:
    model, batch, candidates = zoo.build(kind), plain.make_batch(3), make_candidates((8,))
    found = energy_matrix(model, batch.h, candidates, batch.mask, chunk=2)
    assert torch.allclose(found, plain.energies(model, batch, candidates), atol=zoo.EXACT, rtol=0)
    split = torch.cat([plain.energies(model, batch, part) for part in candidates.split(2)], 1)
    assert (found - split).abs().max() > 1e-9  # it would have mattered


def test_a_pass_that_is_given_up_leaves_no_trace_in_buffers() -> None:
    class CountingEnergy(zoo.CrossEnergy):
        def attend(self, steps: Tensor, context: Tensor, mask: Tensor | None) -> Tensor:
            self.offset.add_(1)
            z = super().attend(steps, context, mask)
            return z - z.mean(0)

    model, batch = zoo.build(CountingEnergy), plain.make_batch(3)
    energy_matrix(model, batch.h, make_candidates((8,)), batch.mask, chunk=2)
    assert model.offset == 2.0


def test_what_python_draws_is_drawn_once() -> None:
    class BranchingEnergy(zoo.CrossEnergy):
        """One of two branches for all pairs, by Python's random numbers or NumPy's."""

        def attend(self, steps: Tensor, context: Tensor, mask: Tensor | None) -> Tensor:
            first = random.random() < 0.5
            second = "numpy" in sys.modules and sys.modules["numpy"].random.rand() < 0.5
            return super().attend(steps.tanh() if first else steps, context.sin() if second else context, mask)

    model, batch, candidates = zoo.build(BranchingEnergy), plain.make_batch(3), make_candidates((6,))
    seen = set()
    for seed in range(8):
        found = []
        for score in (functools.partial(energy_matrix, chunk=2), None):
            random.seed(seed)
            if "numpy" in sys.modules:
                sys.modules["numpy"].random.seed(seed)
            energies = (
                score(model, batch.h, candidates, batch.mask) if score else plain.energies(model, batch, candidates)
            )
            after = random.random()
            found.append([energies.detach(), *plain.reference_gradients(model, energies.square().sum())])
            seen.add(after)
        assert plain.distance(*found) < zoo.EXACT
    assert len(seen) == 8  # the pass has moved Python's generator on as one call does


@pytest.mark.parametrize("chunk", [None, 2])
def test_a_call_that_the_model_counts_is_one(chunk: int | None) -> None:
    model, batch, candidates = zoo.build(more.CountedEnergy), plain.make_batch(2), make_candidates((6,))
    for calls in (1, 2):
        found = energy_matrix(model, batch.h, candidates, batch.mask, chunk=chunk)
        found.sum().backward()
        assert model.calls == calls
        model.calls = calls - 1
        assert torch.allclose(found, plain.energies(model, batch, candidates), atol=zoo.EXACT, rtol=0)


@pytest.mark.parametrize("kind", [zoo.EncoderEnergy, more.rotated])  # type: ignore[attr-defined]
def test_the_memo_does_not_grow_with_the_list(kind: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    memos: list[dict[Any, Any]] = []

    class Watched(pairs.Run):
        def __init__(self, call: Any, ways: Any, memo: Any) -> None:
            super().__init__(call, ways, memo)
            memos.append(memo)

    monkeypatch.setattr(scoring, "Run", Watched)
    model, batch = zoo.build(kind), plain.make_batch(3)
    for count in (4, 16):
        energy_matrix(model, batch.h, make_candidates((count,)), batch.mask, chunk=2).sum().backward()
    assert len(memos[0]) == len(memos[1]) > 0


def test_a_checkpoint_of_the_models_own_that_captures_the_mask() -> None:
    class CapturingEnergy(zoo.CrossEnergy):
        def attend(self, steps: Tensor, context: Tensor, mask: Tensor | None) -> Tensor:
            inner = functools.partial(super().attend, mask=mask)
            return checkpoint(inner, steps, context, use_reentrant=False)  # type: ignore[no-any-return]

    check_equal(zoo.build(CapturingEnergy), plain.make_batch(3), make_candidates((6,)), chunk=2)

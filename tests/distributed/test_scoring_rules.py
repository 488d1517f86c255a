"""Mistakes in the rules, and in what chunks remember, that the comparison with plain pairs must find."""

from typing import Any

import energy_kinds as kinds
import energy_zoo as zoo
import plain_reference as plain
import pytest
import torch.nn.functional as functional
from check_scores import check_equal, make_candidates
from energy_losses import pair_calls, pair_rules, pairs
from energy_losses.scoring import energy_matrix
from torch import Tensor

RULES = dict(pair_rules.RULES)


def wrong_axis(func: Any, x: Any, *args: Any, **options: Any) -> Any:
    result = RULES["softmax"](func, x, *args, **options)
    return pairs.Pairs(result.kept.transpose(-1, -2).reshape(result.kept.shape), result.at, result.grid)


def without_mask(func: Any, q: Any, k: Any, v: Any, mask: Any = None, *args: Any, **options: Any) -> Any:
    return RULES["scaled_dot_product_attention"](func, q, k, v, None, *args, **options)


def without_masked_fill(func: Any, x: Any, mask: Any, value: Any) -> Any:
    return x


@pytest.mark.parametrize(
    ("name", "mistake", "kind"),
    [
        ("softmax", wrong_axis, kinds.softmax_by_hand),  # type: ignore[attr-defined]
        ("scaled_dot_product_attention", without_mask, zoo.CrossEnergy),
        ("masked_fill", without_masked_fill, kinds.softmax_by_hand),  # type: ignore[attr-defined]
    ],
)
def test_a_wrong_rule_is_found(monkeypatch: pytest.MonkeyPatch, name: str, mistake: Any, kind: Any) -> None:
    model, batch, candidates = zoo.build(kind), plain.make_batch(3), make_candidates((5,))
    batch.mask[:, -2:] = True
    batch.mask[:, 0] = False
    check_equal(model, batch, candidates)
    monkeypatch.setitem(pair_rules.RULES, name, mistake)
    with pytest.raises(AssertionError):
        check_equal(model, batch, candidates)


def test_a_memo_that_returns_another_layers_keys_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    identity = pair_calls._identity

    def by_shape(x: Any) -> Any:
        return ("tensor", x.shape) if hasattr(x, "shape") and not isinstance(x, pairs.Pairs) else identity(x)

    model, batch, candidates = zoo.build(zoo.TwoLayerEnergy), plain.make_batch(3), make_candidates((5,))
    check_equal(model, batch, candidates, chunk=2)
    monkeypatch.setattr(pair_calls, "_identity", by_shape)
    with pytest.raises(AssertionError):
        check_equal(model, batch, candidates, chunk=2)


def drawn_for_all_pairs(func: Any, x: Any, p: float = 0.5, training: bool = True, **options: Any) -> Any:
    return pairs.wrapped(func(x.kept, p, training), x.at, x.grid)


class DroppingEnergy(zoo.CrossEnergy):
    def attend(self, steps: Tensor, context: Tensor, mask: Tensor | None) -> Tensor:
        return super().attend(steps, functional.dropout(context, 0.5), mask)


@pytest.mark.parametrize("chunk", [None, 1])
def test_a_dropout_that_pairs_share_is_found(monkeypatch: pytest.MonkeyPatch, chunk: int | None) -> None:
    model, batch, same = zoo.build(DroppingEnergy), plain.make_batch(2), make_candidates((1,)).expand(6, -1, -1)

    def different() -> int:
        return len(energy_matrix(model, batch.h, same, None, chunk=chunk).flatten().unique())

    assert different() == 12
    monkeypatch.setitem(pair_rules.RULES, "dropout", drawn_for_all_pairs)
    if chunk:  # each chunk has one candidate, so only the memo can share a mask
        assert different() == 12
        monkeypatch.setattr(pair_calls, "_key", lambda func, name, args, kwargs: (func, pair_calls._identity(args)))
    assert different() < 12


def test_memory_that_tensors_share_unnoticed_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    model, batch = zoo.build(kinds.in_place_through_a_view), plain.make_batch(3)  # type: ignore[attr-defined]
    check_equal(model, batch, make_candidates((5,)))
    monkeypatch.setattr(pair_calls, "_VIEWS", frozenset())
    with pytest.raises(AssertionError):
        check_equal(model, batch, make_candidates((5,)))


def test_pairs_that_are_split_unnoticed_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    model, batch = zoo.build(kinds.scaled_by_the_batch), plain.make_batch(3)  # type: ignore[attr-defined]
    check_equal(model, batch, make_candidates((6,)), chunk=2)
    monkeypatch.setattr(pairs.Run, "notice", lambda run, way, reason: None)
    with pytest.raises(AssertionError):
        check_equal(model, batch, make_candidates((6,)), chunk=2)

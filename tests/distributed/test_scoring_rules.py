"""Mistakes in the rules, and in what chunks remember, that the comparison with plain pairs must find."""

from typing import Any

import energy_kinds as kinds
import energy_zoo as zoo
import plain_reference as plain
import pytest
from check_scores import check_equal, make_candidates
from energy_losses import pair_rules, pairs

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
    identity = pairs._identity

    def by_shape(x: Any) -> Any:
        return ("tensor", x.shape) if hasattr(x, "shape") and not isinstance(x, pairs.Pairs) else identity(x)

    model, batch, candidates = zoo.build(zoo.TwoLayerEnergy), plain.make_batch(3), make_candidates((5,))
    check_equal(model, batch, candidates, chunk=2)
    monkeypatch.setattr(pairs, "_identity", by_shape)
    with pytest.raises(AssertionError):
        check_equal(model, batch, candidates, chunk=2)

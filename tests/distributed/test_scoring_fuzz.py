"""Every rule of the table alone and in chains that chance puts together, against plain pairs."""

import functools
from typing import Any

import energy_zoo as zoo
import operations
import plain_reference as plain
import pytest
from check_scores import check_equal, make_candidates
from energy_losses.pair_rules import RULES
from energy_losses.scoring import materialised
from hypothesis import HealthCheck, given, reject, settings
from hypothesis import strategies as st
from torch import Tensor

MIXED = (0, 1), (1, 0), (0, 0), (1, 1), (2, 0)  # contexts, actions, both
NAMES = operations.names()
SMOOTH = sorted(set(NAMES) - operations.STEPS)


class Chained(zoo.CrossEnergy):
    """Operations on contexts, actions, what they give together, and on the results of earlier ones."""

    def __init__(self, chain: Any) -> None:
        super().__init__()
        self.chain = chain

    def attend(self, steps: Tensor, context: Tensor, mask: Tensor | None) -> Tensor:
        pool = [context, steps, super().attend(steps, context, mask)]
        for name, first, second in self.chain:
            pool.append(operations.applied(name, pool[first % len(pool)], pool[second % len(pool)]))
        return pool[2] + sum(x.mean(1, keepdim=True) * (i + 1) for i, x in enumerate(pool[3:]))


def test_every_operation_of_the_table_is_tried() -> None:
    assert set(operations.APPLY) == set(RULES)
    assert set(RULES) - set(NAMES) <= {"rms_norm"}  # newer than the oldest torch


@pytest.mark.parametrize("name", NAMES)
def test_each_operation_equals_pairs(name: str) -> None:
    model = zoo.build(functools.partial(Chained, [(name, *places) for places in MIXED]))
    check_equal(model, plain.make_batch(3), make_candidates((4,)))
    assert not any(reason.startswith("everything") for reason in materialised(model))
    check_equal(model, plain.make_batch(2), make_candidates((2, 5)), chunk=2)


@settings(max_examples=30, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(st.lists(st.tuples(st.sampled_from(SMOOTH), st.integers(0, 9), st.integers(0, 9)), min_size=2, max_size=8))
def test_chains_equal_pairs(chain: Any) -> None:
    model = zoo.build(functools.partial(Chained, chain))
    try:
        plain.energies(model, plain.make_batch(2), make_candidates((2,)))
    except (RuntimeError, IndexError):
        reject()  # no model at all
    check_equal(model, plain.make_batch(3), make_candidates((2,)))
    check_equal(model, plain.make_batch(2), make_candidates((3,)), chunk=2)

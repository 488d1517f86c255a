"""Programs that chance puts together of views, copies and writes, whose tensors share memory: equal to plain pairs."""

from collections.abc import Callable
from typing import Any

import energy_zoo as zoo
import plain_reference as plain
import torch
import torch.nn.functional as F
from check_scores import check_equal, make_candidates
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from torch import Tensor

Operation = Callable[[Tensor, Tensor], Any]


def add_to_itself(x: Tensor, y: Tensor) -> None:
    x += y[:, :1, :1]


def assign(x: Tensor, y: Tensor) -> None:
    x[:, 0] = y[:, 0, :1]


def assign_where(x: Tensor, y: Tensor) -> None:
    x[x > 0.3] = 0.1


def without_gradients(x: Tensor, y: Tensor) -> None:
    with torch.no_grad():
        x.mul_(0.9)


VIEWS: list[Operation] = [
    lambda x, y: x.transpose(1, 2), lambda x, y: x[:, :2], lambda x, y: x.view(x.shape), lambda x, y: x[..., :4],
    lambda x, y: x.reshape(len(x), -1, 4), lambda x, y: x.unsqueeze(1).squeeze(1), lambda x, y: x.detach(),
    lambda x, y: x.mT, lambda x, y: x.unfold(1, 2, 1)[..., 0], lambda x, y: x.diagonal(0, 1, 2)[:, None],
    lambda x, y: x.expand(-1, -1, -1), lambda x, y: x.chunk(2, -1)[0], lambda x, y: x.contiguous(),
    lambda x, y: x.double(), lambda x, y: x.unbind(1)[0][:, None], lambda x, y: x.narrow(1, 0, 1),
]  # fmt: skip
COPIES: list[Operation] = [
    lambda x, y: x * 1.1, lambda x, y: x.tanh(), lambda x, y: x + y[:, :1, :1], lambda x, y: x.clone(),
    lambda x, y: x * y.mean((1, 2), keepdim=True), lambda x, y: F.dropout(x, 0.5, False),
    lambda x, y: x.repeat_interleave(1, 0), lambda x, y: x.flip(1),
]  # fmt: skip
WRITES: list[Operation] = [
    add_to_itself, assign, assign_where, without_gradients, lambda x, y: x.add_(1), lambda x, y: x.mul_(0.5),
    lambda x, y: x.masked_fill_(x > 0.2, 0.0), lambda x, y: x.copy_(y[:, :1, :1].expand_as(x)),
    lambda x, y: x.zero_(), lambda x, y: F.relu(x, inplace=True), lambda x, y: x.clamp_(-0.3, 0.3),
    lambda x, y: x.data.add_(0.1),
]  # fmt: skip
STEP = st.tuples(st.sampled_from([*VIEWS, *COPIES, *WRITES, *WRITES]), st.integers(0, 9), st.integers(0, 9))


class Writing(zoo.CrossEnergy):
    """Keeps what a step makes beside the tensor it is made of, or, for a ``second`` of 0, instead of it."""

    program: Any = ()

    def attend(self, steps: Tensor, context: Tensor, mask: Tensor | None) -> Tensor:
        pool = [context * 1, steps * 1]
        for operation, first, second in self.program:
            place = first % len(pool)
            made = operation(pool[place], pool[second % len(pool)])
            if operation not in WRITES:
                pool.append(made)
                pool[place] = pool[place] if second else made
        return sum(x.mean((1, 2)) * (i + 1) for i, x in enumerate(pool))[:, None, None].expand(-1, 4, 8)  # type: ignore[union-attr]


@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(st.lists(STEP, min_size=2, max_size=8))
def test_tensors_that_share_memory_equal_pairs(program: Any) -> None:
    model, batch, candidates = zoo.build(Writing), plain.make_batch(2), make_candidates((3,))
    model.program = program
    try:
        plain.energies(model, batch, candidates).sum().backward()
    except (RuntimeError, IndexError):
        assume(False)  # torch does not allow it
    for chunk in (None, 1):
        check_equal(model, batch, candidates, chunk=chunk)

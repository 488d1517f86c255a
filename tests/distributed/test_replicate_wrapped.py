"""One line keeps the ranks one model, whatever the model is in, has in it, or stands beside."""

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import energy_zoo as zoo
import pytest
import torch
from energy_losses.ranks import replicate
from loops import EVEN, STEPS, UNEVEN, Place, assert_one_process, clipped_step, optimizer_of, plainly, weights
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint


class Checkpointed(zoo.CrossEnergy):
    """Runs its head in a checkpoint."""

    reentrant = False

    def forward(self, h: Tensor, a: Tensor, pad_mask: Tensor | None = None) -> Any:
        z = self.attend(self.steps(a), self.context(h), pad_mask)
        return self.offset + checkpoint(self.head, z, use_reentrant=self.reentrant).sigmoid().mean(dim=1)


class ReentrantlyCheckpointed(Checkpointed):
    reentrant = True


def checkpointed(place: Place) -> list[Tensor]:
    return plainly(place, kind=Checkpointed)


def checkpointed_reentrant(place: Place) -> list[Tensor]:
    return plainly(place, kind=ReentrantlyCheckpointed)


def beside_a_policy(place: Place, **options: Any) -> list[Tensor]:
    """The policy in DDP, one backward pass for both losses, one optimizer."""
    policy, model = nn.Linear(zoo.STATE_DIM, zoo.ACT_DIM).double(), place.build()
    nn.init.ones_(policy.weight)
    nn.init.zeros_(policy.bias)
    wrapped, optimizer = place.wrap(policy, **options), optimizer_of(policy, model)
    for step in range(STEPS):
        batch = place.batch(step)
        imitation = (wrapped(batch.h[:, 0]) - batch.a.mean(dim=1)).square().mean()
        (imitation + 0.5 * place.loss(model, batch)).backward()
        clipped_step(optimizer, policy, model)
    return weights(policy, model)


def beside_a_policy_with_bucket_views(place: Place) -> list[Tensor]:
    return beside_a_policy(place, gradient_as_bucket_view=True)


class Both(nn.Module):
    def __init__(self, energy: nn.Module) -> None:
        super().__init__()
        self.policy = nn.Linear(zoo.STATE_DIM, zoo.ACT_DIM).double()
        nn.init.ones_(self.policy.weight)
        nn.init.zeros_(self.policy.bias)
        self.energy = energy

    def forward(self, h: Tensor) -> Tensor:
        return self.policy(h[:, 0])


def inside_a_larger_ddp(place: Place, **options: Any) -> list[Tensor]:
    """Averaged twice: by DDP, of which the energy model is a part, and by the line. Two passes, the first unsynced."""
    both = Both(place.build())
    wrapped, optimizer = place.wrap(both, **options), optimizer_of(both)
    for step in range(2 * STEPS):
        batch = place.batch(step)
        unsynced = wrapped.no_sync() if step % 2 == 0 and place.world > 1 else nullcontext()
        with unsynced:
            imitation = (wrapped(batch.h) - batch.a.mean(dim=1)).square().mean()
            (imitation + 0.5 * place.loss(both.energy, batch)).backward()
        if step % 2:
            clipped_step(optimizer, both)
    return weights(both)


def inside_a_larger_ddp_with_bucket_views(place: Place) -> list[Tensor]:
    return inside_a_larger_ddp(place, gradient_as_bucket_view=True)


def wrapped(place: Place, wrap: Callable[[nn.Module], Any]) -> list[Tensor]:
    """The user's own wrappers; where the line is left out, so is DDP."""
    model = place.build()
    scored = wrap(model) if place.world > 1 else model
    optimizer = optimizer_of(model)
    for step in range(STEPS):
        place.loss(scored, place.batch(step)).backward()
        clipped_step(optimizer, model)
    return weights(model)


def compiled(model: nn.Module) -> Any:
    return torch.compile(model, backend="eager")


def in_ddp(place: Place) -> list[Tensor]:
    return wrapped(place, place.wrap if place.line is replicate else nn.Module.eval)


def compiled_in_ddp(place: Place) -> list[Tensor]:
    return wrapped(place, lambda m: place.wrap(compiled(m)) if place.line is replicate else compiled(m))


def ddp_compiled(place: Place) -> list[Tensor]:
    return wrapped(place, lambda m: compiled(place.wrap(m) if place.line is replicate else m))


def compiled_alone(place: Place) -> list[Tensor]:
    return wrapped(place, compiled)


LOOPS: dict[Callable[..., list[Tensor]], list[int]] = {
    checkpointed: UNEVEN,
    checkpointed_reentrant: UNEVEN,
    beside_a_policy: EVEN,
    beside_a_policy_with_bucket_views: EVEN,
    in_ddp: UNEVEN,
    compiled_in_ddp: UNEVEN,
    ddp_compiled: UNEVEN,
    compiled_alone: UNEVEN,
}


@pytest.mark.parametrize("loop", LOOPS, ids=lambda loop: loop.__name__)
def test_a_loop_with_the_line_is_one_process(pool: Any, loop: Callable[..., list[Tensor]]) -> None:
    assert_one_process(pool, loop, LOOPS[loop])


@pytest.mark.parametrize(
    "loop", [inside_a_larger_ddp, inside_a_larger_ddp_with_bucket_views], ids=lambda loop: loop.__name__
)
def test_ddp_around_a_larger_module_averages_too(pool: Any, loop: Callable[..., list[Tensor]]) -> None:
    """So without the line there is nothing to miss."""
    assert_one_process(pool, loop, EVEN, mistake="local negatives")


def test_nested_backward_passes_and_a_rank_without_rows(pool: Any) -> None:
    assert_one_process(pool, checkpointed_reentrant, [3, 0, 1, 3])

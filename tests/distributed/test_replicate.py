"""One line keeps the ranks one model: loops of every kind, with the line on real ranks, against one process.

A loop is written once. On ranks it has its share of the rows, weights of its own, the loss over all ranks and the line;
in one process it has all rows and the plain loss. Left out, the line must be missed.
"""

import copy
import io
import math
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import energy_zoo as zoo
import plain_reference as plain
import pytest
import torch
from energy_losses import ranks as ranks_module
from energy_losses.global_infonce import distributed_energy_inbatch_swap_infonce as global_loss
from energy_losses.ranks import broadcast_parameters, replicate
from energy_zoo import EXACT
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.checkpoint import checkpoint

STEPS = 4
UNEVEN, EVEN, WITHOUT_ROWS = [3, 2, 1, 3], [2, 2, 2, 2], [3, 0, 1, 3]


@dataclass
class Place:
    """Where a loop runs: a rank of several, or one process with all rows."""

    rows: list[int]
    rank: int = 0
    world: int = 1
    line: Callable[[nn.Module], nn.Module] = replicate
    local: bool = False  # a mistake: negatives of the rank's own batch only

    def batch(self, step: int) -> plain.Batch:
        whole = plain.make_batch(sum(self.rows), seed=step)
        return whole if self.world == 1 else plain.share(whole, self.rows, self.rank)

    def loss(self, model: nn.Module, batch: plain.Batch) -> Tensor:
        """What stands in the script: the line, and the call."""
        if self.world == 1:
            return plain.global_loss(model, batch)[0]
        self.line(model)
        return (plain.global_loss(model, batch) if self.local else global_loss(model, batch.h, batch.a, batch.mask))[0]

    def build(self, kind: Any = zoo.UNDER_TEST, seed: int = 0, **options: Any) -> Any:
        """A model as a script builds it that seeds nothing."""
        return zoo.build(kind, seed=seed + 10 * self.rank, **options)

    def wrap(self, model: nn.Module, **options: Any) -> nn.Module:
        return model if self.world == 1 else DistributedDataParallel(model, **options)


def optimizer_of(*models: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.AdamW([p for m in models for p in m.parameters()], lr=1e-2, weight_decay=0.1)


def clipped_step(optimizer: torch.optim.Optimizer, *models: nn.Module) -> None:
    for model in models:
        nn.utils.clip_grad_norm_(model.parameters(), 0.05)
    optimizer.step()
    optimizer.zero_grad()


def weights(*models: nn.Module) -> list[Tensor]:
    return [p.detach().clone() for model in models for p in model.parameters()]


def plainly(place: Place, micro: int = 1, kind: Any = zoo.UNDER_TEST) -> list[Tensor]:
    model = place.build(kind)
    optimizer = optimizer_of(model)
    for step in range(STEPS * micro):
        loss = place.loss(model, place.batch(step)) / micro
        if step % micro == 0:
            optimizer.zero_grad()
        loss.backward()
        if step % micro == micro - 1:
            clipped_step(optimizer, model)
    return weights(model)


def accumulated(place: Place) -> list[Tensor]:
    return plainly(place, micro=3)


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


def margin(model: nn.Module, batch: plain.Batch) -> Tensor:
    """A loss of the user's own."""
    return (1 + model(batch.h, batch.a, batch.mask) - model(batch.h, -batch.a, batch.mask)).relu().mean()


def two_losses(place: Place) -> list[Tensor]:
    model = place.build()
    optimizer = optimizer_of(model)
    for step in range(STEPS):
        batch = place.batch(step)
        loss = place.loss(model, batch) + 0.3 * margin(model, batch)
        loss.backward(retain_graph=True)
        (0.1 * loss).backward()
        (0.2 * margin(model, batch)).backward()
        clipped_step(optimizer, model)
    return weights(model)


def thawed_later(place: Place) -> list[Tensor]:
    model = place.build()
    optimizer = optimizer_of(model)
    frozen = list(model.parameters())[::2]
    for step in range(STEPS):
        for parameter in frozen:
            parameter.requires_grad_(step >= 2)
        place.loss(model, place.batch(step)).backward()
        clipped_step(optimizer, model)
    return weights(model)


def added_later(place: Place) -> list[Tensor]:
    """A part of the model is made after some steps, from the rank's own numbers."""
    model = place.build()
    optimizer = optimizer_of(model)
    for step in range(STEPS):
        if step == 2:
            head, model.head = model.head, nn.Sequential(model.head, nn.Linear(1, 1).double())
            nn.init.constant_(model.head[1].weight, 1.0 + place.rank)
            nn.init.constant_(model.head[1].bias, float(place.rank))
            optimizer = optimizer_of(model)
            assert head is model.head[0]
        place.loss(model, place.batch(step)).backward()
        clipped_step(optimizer, model)
    return weights(model)


def unused(place: Place) -> list[Tensor]:
    """One parameter is reached on rank 1 only, where it counts as a quarter; another on none, and must not decay."""
    model = place.build()
    model.some = nn.Parameter(torch.full((3,), 2.0 + place.rank, dtype=torch.float64))
    model.none = nn.Parameter(torch.full((2,), 5.0 + place.rank, dtype=torch.float64))
    optimizer = optimizer_of(model)
    for step in range(STEPS):
        loss = place.loss(model, place.batch(step))
        if place.rank == 1 or place.world == 1:
            loss = loss + model.some.square().sum() / (1 if place.world > 1 else 4)
        loss.backward()
        assert model.none.grad is None
        clipped_step(optimizer, model)
    return weights(model)


def averaged_weights(place: Place) -> list[Tensor]:
    """A copy holds a moving average; it scores, and is not trained."""
    model = place.build()
    optimizer = optimizer_of(model)
    if place.world > 1:
        place.line(model)
    average = copy.deepcopy(model)
    for step in range(STEPS):
        place.loss(model, place.batch(step)).backward()
        clipped_step(optimizer, model)
        with torch.no_grad():
            for mine, new in zip(average.parameters(), model.parameters(), strict=True):
                mine.lerp_(new, 0.3)
            for i in range(place.rank):
                place.loss(average, place.batch(100 + i))
    return weights(model, average)


def trained_copy(place: Place) -> list[Tensor]:
    """From the second step on, a copy made after the first is trained in the place of the model."""
    model = place.build()
    optimizer = optimizer_of(model)
    for step in range(STEPS):
        place.loss(model, place.batch(step)).backward()
        clipped_step(optimizer, model)
        if step == 0:
            model = copy.deepcopy(model)
            optimizer = optimizer_of(model)
    return weights(model)


def saved_and_loaded(place: Place) -> list[Tensor]:
    """Saved as a state and whole, trained further, and taken back: into the model, as new tensors, and as a module."""
    model = place.build()
    optimizer = optimizer_of(model)
    state, whole = io.BytesIO(), io.BytesIO()
    for step in range(3 * STEPS):
        place.loss(model, place.batch(step)).backward()
        clipped_step(optimizer, model)
        if step == 1:
            torch.save(model.state_dict(), state)
            torch.save(model, whole)
        if step in (3, 5):
            state.seek(0)
            model.load_state_dict(torch.load(state), assign=step == 5)
            optimizer = optimizer_of(model)
        if step == 7:
            whole.seek(0)
            model = torch.load(whole, weights_only=False)
            optimizer = optimizer_of(model)
    return weights(model)


def validated_first(place: Place) -> list[Tensor]:
    model = place.build()
    optimizer = optimizer_of(model)
    for step in range(STEPS):
        with torch.no_grad():
            for i in range(place.rank):
                place.loss(model, place.batch(100 + i))
        place.loss(model, place.batch(step)).backward()
        clipped_step(optimizer, model)
    return weights(model)


def two_models(place: Place) -> list[Tensor]:
    """One backward pass for both; then one each."""
    first, second = place.build(seed=1), place.build(seed=2)
    optimizer = optimizer_of(first, second)
    for step in range(STEPS):
        batch = place.batch(step)
        losses = [place.loss(first, batch), place.loss(second, batch)]
        if step % 2:
            sum(losses).backward()
        else:
            losses[1].backward()
            losses[0].backward()
        clipped_step(optimizer, first, second)
    return weights(first, second)


def overflow_checked_by_hand(place: Place) -> list[Tensor]:
    """A loss scale, halved and the step skipped where a gradient is not finite; at step 1 that is rank 1's doing."""
    model, scale = place.build(), 1024.0
    optimizer = optimizer_of(model)
    for step in range(STEPS):
        loss = scale * place.loss(model, place.batch(step))
        (loss * math.inf if step == 1 and (place.rank == 1 or place.world == 1) else loss).backward()
        if all(bool(p.grad.isfinite().all()) for p in model.parameters()):
            for parameter in model.parameters():
                parameter.grad /= scale
            clipped_step(optimizer, model)
        else:
            scale /= 2
            optimizer.zero_grad()
    return [*weights(model), torch.tensor(scale)]


def with_a_scaler(place: Place) -> list[Tensor]:
    model, scaler = place.build(), torch.amp.GradScaler("cpu", init_scale=1024.0)
    optimizer = optimizer_of(model)
    for step in range(STEPS):
        loss = scaler.scale(place.loss(model, place.batch(step)))
        (loss * math.inf if step == 1 and (place.rank == 1 or place.world == 1) else loss).backward()
        scaler.unscale_(optimizer)
        nn.utils.clip_grad_norm_(model.parameters(), 0.05)
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()
    return [*weights(model), torch.tensor(scaler.get_scale())]


def failing_inside(place: Place) -> list[Tensor]:
    """The backward pass raises on every rank, when some gradients have arrived; the user goes on."""
    model = place.build()
    optimizer = optimizer_of(model)
    for step in range(STEPS):
        batch = place.batch(step)
        if step == 1:
            h = batch.h.clone().requires_grad_()
            h.register_hook(interrupt)
            with pytest.raises(InterruptedError):
                place.loss(model, plain.Batch(h, batch.a, batch.mask)).backward()
            optimizer.zero_grad()
        else:
            place.loss(model, batch).backward()
            clipped_step(optimizer, model)
    return weights(model)


def interrupt(_: Tensor) -> None:
    raise InterruptedError


def looked_into(place: Place) -> list[Tensor]:
    """One rank looks at gradients of its own, by inputs and by parameters, which sends nothing."""
    model = place.build()
    optimizer = optimizer_of(model)
    for step in range(STEPS):
        batch = place.batch(step)
        h = batch.h.clone().requires_grad_()
        loss = place.loss(model, plain.Batch(h, batch.a, batch.mask))
        if place.rank == 1:
            torch.autograd.grad(loss, h, retain_graph=True)
            torch.autograd.grad(loss, list(model.parameters()), retain_graph=True)
        loss.backward()
        clipped_step(optimizer, model)
    return weights(model)


LOOPS: dict[Callable[..., list[Tensor]], list[int]] = {
    plainly: UNEVEN,
    accumulated: UNEVEN,
    checkpointed: UNEVEN,
    checkpointed_reentrant: UNEVEN,
    beside_a_policy: EVEN,
    beside_a_policy_with_bucket_views: EVEN,
    inside_a_larger_ddp: EVEN,
    inside_a_larger_ddp_with_bucket_views: EVEN,
    in_ddp: UNEVEN,
    compiled_in_ddp: UNEVEN,
    ddp_compiled: UNEVEN,
    compiled_alone: UNEVEN,
    two_losses: EVEN,
    thawed_later: UNEVEN,
    added_later: UNEVEN,
    unused: UNEVEN,
    averaged_weights: UNEVEN,
    trained_copy: UNEVEN,
    saved_and_loaded: UNEVEN,
    validated_first: UNEVEN,
    two_models: UNEVEN,
    overflow_checked_by_hand: UNEVEN,
    failing_inside: UNEVEN,
    looked_into: UNEVEN,
}
if hasattr(torch.amp, "GradScaler"):  # of CPU tensors, since torch 2.3
    LOOPS[with_a_scaler] = UNEVEN
NEEDS_NO_LINE = {inside_a_larger_ddp, inside_a_larger_ddp_with_bucket_views}  # DDP averages there too
BY_NAME = {loop.__name__: loop for loop in LOOPS}


def on_a_rank(rank: int, world: int, name: str, rows: list[int], mistake: str = "") -> list[Tensor]:
    place = Place(rows, rank, world, local=mistake == "local negatives")
    if mistake == "no line":
        place.line = nn.Module.train
    if mistake == "no averaging":
        place.line = broadcast_parameters
    with pytest.MonkeyPatch.context() as patch:
        if mistake == "no broadcast":
            patch.setattr(ranks_module, "broadcast_parameters", lambda *_, **__: None)
        return BY_NAME[name](place)


@pytest.mark.parametrize("name", BY_NAME)
def test_a_loop_with_the_line_is_one_process(pool: Any, name: str) -> None:
    rows = LOOPS[BY_NAME[name]]
    expected = BY_NAME[name](Place(rows))
    first, *others = pool.run(4, on_a_rank, name, rows)
    assert plain.distance(first, expected) < EXACT
    assert all(plain.distance(other, first) == 0 for other in others)
    mistake = "local negatives" if BY_NAME[name] in NEEDS_NO_LINE else "no line"
    for wrong in pool.run(4, on_a_rank, name, rows, mistake)[1:]:
        assert plain.distance(wrong, expected) > 1e-3


def test_a_rank_without_rows_takes_part(pool: Any) -> None:
    expected = plainly(Place(WITHOUT_ROWS))
    first, *others = pool.run(4, on_a_rank, "plainly", WITHOUT_ROWS)
    assert plain.distance(first, expected) < EXACT
    assert all(plain.distance(other, first) == 0 for other in others)
    assert plain.distance(plainly(Place(UNEVEN)), expected) > 1e-3


@pytest.mark.parametrize("mistake", ["no averaging", "no broadcast", "local negatives"])
def test_a_loop_with_half_of_it_is_not(pool: Any, mistake: str) -> None:
    expected = plainly(Place(UNEVEN))
    assert max(plain.distance(found, expected) for found in pool.run(4, on_a_rank, "plainly", UNEVEN, mistake)) > 1e-3

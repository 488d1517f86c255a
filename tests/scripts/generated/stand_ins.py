"""What generated scripts import, as stand-ins that write down what is done with them."""

from __future__ import annotations

import sys
import types
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from tests.scripts.generated.pieces import LOSS

WORLD_SIZE = 4


@dataclass
class Log:
    """What a script did, in order."""

    events: list[tuple[Any, ...]] = field(default_factory=list)
    models: int = 0

    def note(self, *entry: Any) -> None:
        self.events.append(entry)


class Model:
    """An energy model that only knows its number."""

    training = True

    def __init__(self, log: Log, *_: Any, **__: Any) -> None:
        self.number = log.models
        log.models += 1
        log.note("build", self.number)

    def parameters(self) -> list[Any]:
        return [types.SimpleNamespace(requires_grad=True, grad=types.SimpleNamespace(clamp_=lambda *_: None))]

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return lambda *_, **__: self


@dataclass
class Loss:
    log: Log

    def backward(self) -> None:
        self.log.note("backward")

    def __mul__(self, _: object) -> Loss:
        return self

    __rmul__ = __add__ = __radd__ = __truediv__ = __mul__


class Optimizer:
    def __init__(self, log: Log, *_: Any, **__: Any) -> None:
        self.log = log
        log.note("optimizer")

    def step(self) -> None:
        self.log.note("step")

    def zero_grad(self) -> None:
        pass


class Scaler:
    def __init__(self, log: Log) -> None:
        self.log = log

    def scale(self, loss: Loss) -> Loss:
        return loss

    def unscale_(self, _: Optimizer) -> None:
        self.log.note("unscale")

    def step(self, optimizer: Optimizer) -> None:
        optimizer.step()

    def update(self) -> None:
        pass


def module(name: str, **members: Any) -> types.ModuleType:
    """A module that holds these members, and may have modules below it."""
    made = types.ModuleType(name)
    made.__path__ = []
    vars(made).update(members)
    return made


def torch_stand_ins(log: Log) -> dict[str, types.ModuleType]:
    """As much of torch as the scripts use."""
    distributed = module(
        "torch.distributed", is_initialized=lambda: True, get_world_size=lambda: WORLD_SIZE, get_rank=lambda: 1
    )
    utils = module("torch.nn.utils", clip_grad_norm_=lambda *_: log.note("clip"))
    optim = module("torch.optim", AdamW=lambda *args, **kw: Optimizer(log, *args, **kw))
    nn = module("torch.nn", utils=utils)
    torch = module("torch", distributed=distributed, nn=nn, optim=optim, GradScaler=lambda: Scaler(log))
    return {each.__name__: each for each in (torch, distributed, nn, utils, optim)}


def stand_ins(log: Log) -> dict[str, types.ModuleType]:
    """Modules under the names that scripts import them by."""

    def original(energy_model, h, a_pos, pad_mask=None, tau=0.5, reduce_steps="mean"):  # type: ignore[no-untyped-def]
        log.note("loss", energy_model.number, h, a_pos, pad_mask, tau)
        return Loss(log), 1.0, 2.0

    def replacement(  # type: ignore[no-untyped-def]
        energy_model, h, a_pos, pad_mask=None, tau=0.5, world_size=None, *, group=None, min_distance=0.0
    ):
        assert world_size == WORLD_SIZE
        log.note("loss", energy_model.number, h, a_pos, pad_mask, tau)
        return Loss(log), 1.0, 2.0

    def replicate(energy_model: Model) -> Model:
        log.note("replicate", energy_model.number)
        return energy_model

    energy_model = module(
        "energy.energy_model", EnergyModel=lambda *args, **kw: Model(log, *args, **kw), **{LOSS: original}
    )
    losses = module("energy_losses.global_infonce", **{f"distributed_{LOSS}": replacement})
    ranks = module("energy_losses.ranks", replicate=replicate)
    named = {
        **torch_stand_ins(log),
        "energy": module("energy", energy_model=energy_model),
        "energy.energy_model": energy_model,
        "energy_losses": module("energy_losses", global_infonce=losses, ranks=ranks),
        "energy_losses.global_infonce": losses,
        "energy_losses.ranks": ranks,
        "pack": module("pack"),
        "pack.energy_model": energy_model,
    }
    for name in ("energy_losses", "energy_losses.global_infonce", "energy_losses.ranks"):
        named[f"pack.{name}"] = named[name]
    return named


@contextmanager
def imported(modules: dict[str, types.ModuleType]) -> Iterator[None]:
    """Put modules where `import` finds them, and put back what was there."""
    before = {name: sys.modules.get(name) for name in modules}
    sys.modules.update(modules)
    try:
        yield
    finally:
        for name, old in before.items():
            if old is None:
                del sys.modules[name]
            else:
                sys.modules[name] = old


def run(raw: bytes) -> list[tuple[Any, ...]]:
    """Run a script with stand-ins; what it did."""
    log = Log()
    with imported(stand_ins(log)):
        exec(compile(raw, "train.py", "exec", dont_inherit=True), {"__name__": "__main__", "__package__": "pack"})
    return log.events

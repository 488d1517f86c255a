"""One line that keeps the ranks one model: ``replicate(energy_model)``, before each call of the loss."""

import threading
import weakref
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor, nn

from .gradients import average_gradients, will_be_averaged
from .membership import has_ddp, training_ranks, unwrapped
from .weights import broadcast_parameters

__all__ = ["average_gradients", "broadcast_parameters", "replicate"]


def replicate(energy_model: nn.Module, *, group: dist.ProcessGroup | None = None) -> nn.Module:
    """Keep the ranks one model, as ``DistributedDataParallel`` does, but without a wrapper; returns the model.

    Call it before each training forward, on every rank. The first call gives every rank rank 0's parameters and
    buffers. From then on the mean of the ranks' gradients stands in ``grad`` when a backward pass ends that reached the
    model, so clipping, unscaling and the step decide the same on every rank. What earlier micro-batches left is equal
    on all ranks, and stays so when it is averaged again. ``torch.autograd.grad`` averages nothing.

    Every rank must run the same backward passes through the model: one that skips a pass keeps the others waiting. A
    rank without rows takes part through the losses of this package. A step inside the backward pass, from a hook of
    the user's, would come before the mean.

    Does nothing, and remembers nothing, on one rank, without a process group, with gradients disabled, or for a model
    in ``DistributedDataParallel``. Parameters that are added later are broadcast at the next call. The model is
    remembered weakly; copies of it (``deepcopy``, ``torch.save``) are models of their own.

    Raises:
        ValueError: on every rank, if a model has sharded parameters or the ranks' models differ in size.
    """
    ranks = training_ranks(group)
    if ranks.size == 1 or has_ddp(energy_model):
        return energy_model
    model = unwrapped(energy_model)
    replica = _replicas.get(model)
    seen = replica.seen if replica else {}
    new = [p for p in model.parameters() if id(p) not in seen or seen[id(p)]() is not p]
    if new or replica is None:
        broadcast_parameters(model, group=group)
        _replicas[model] = replica or _Replica(group, seen)
        will_be_averaged(model)
        reach = partial(_reach, weakref.ref(model))  # a hook must not keep the model alive
        for parameter in new:
            seen[id(parameter)] = weakref.ref(parameter)
            _hook(parameter, reach)
    return energy_model


def _hook(parameter: nn.Parameter, hook: Callable[[Tensor], None]) -> None:
    """Set a hook that stays when the parameter is frozen or thawed; none can be set while it is frozen."""
    if parameter.is_floating_point() or parameter.is_complex():
        trained = parameter.requires_grad
        parameter.requires_grad_().register_post_accumulate_grad_hook(hook)  # type: ignore[no-untyped-call]
        parameter.requires_grad_(trained)


class _Replica(NamedTuple):
    group: dist.ProcessGroup | None
    seen: dict[int, "weakref.ref[nn.Parameter]"]


class _BackwardPass:
    """Averages the gradients of the models that a backward pass reaches, when it ends.

    The engine alone keeps it, for as long as the pass lasts, so one that fails leaves nothing behind.
    """

    def __init__(self) -> None:
        self.reached: weakref.WeakSet[nn.Module] = weakref.WeakSet()
        self.is_last = False

    def __call__(self) -> None:
        global _under_way
        if not self.is_last:  # behind the callbacks that others have queued: DDP, around a larger module, ends its own
            self.is_last = True
            _queue_callback(self)
            return
        _under_way = _no_pass
        for model, replica in list(_replicas.items()):  # in the order of their first calls, which all ranks share
            if model in self.reached:
                average_gradients(model, group=replica.group)


def _no_pass() -> _BackwardPass | None:
    return None


_replicas: "weakref.WeakKeyDictionary[nn.Module, _Replica]" = weakref.WeakKeyDictionary()
_under_way: Callable[[], _BackwardPass | None] = _no_pass
_lock = threading.Lock()  # gradients on several devices arrive in several threads
_queue_callback = torch.autograd.Variable._execution_engine.queue_callback


def average_when_done(energies: Tensor) -> Tensor:
    """Let gradients that arrive in passes nested in the one through ``energies`` be averaged when that one ends.

    Reentrant checkpoints nest a pass each, and how many there are depends on a rank's rows. Returns ``energies``.
    """
    if energies.requires_grad:
        energies.register_hook(_begin_pass)  # type: ignore[no-untyped-call]
    return energies


def _begin_pass(_: Tensor) -> None:
    _current_pass()


def _reach(reference: "weakref.ref[nn.Module]", _: Tensor) -> None:
    model = reference()
    if model is not None:
        _current_pass().reached.add(model)


def _current_pass() -> _BackwardPass:
    global _under_way
    with _lock:
        current = _under_way()
        if current is None:
            current = _BackwardPass()
            _queue_callback(current)
            _under_way = weakref.ref(current)
        return current

"""Energies of many candidate actions, with each context and each action encoded once.

The model is called with B * N pairs, as any model can be; but its inputs are ``Pairs``, which keep one copy of each
context and of each action for as long as an operation has a rule, so the result is that of plain pairs.
"""

import contextlib
import random
import sys
import traceback
import warnings
import weakref
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from .membership import unwrapped
from .pair_calls import called
from .pairs import Grid, Rerun, Run, is_out_of_memory, plain

# Candidates beyond so many steps are scored in further chunks. A pass of 8192 steps fills a device, and takes about
# 0.3 GB with a hidden size of 512.
_STEPS_PER_PASS = 8192

_CONTAINERS = dict, OrderedDict, list, deque, set

_warned: "weakref.WeakSet[nn.Module]" = weakref.WeakSet()
_materialised: "weakref.WeakKeyDictionary[nn.Module, Counter[str]]" = weakref.WeakKeyDictionary()


def energy_matrix(
    energy_model: nn.Module, h: Tensor, a: Tensor, pad_mask: Tensor | None = None, *, chunk: int | None = None
) -> Tensor:
    """Energies of B contexts with many candidate actions each, [B, N].

    Args:
        energy_model: called as ``energy_model(h, a, pad_mask)`` for pairs, returns an energy per pair, [B, 1], or a
            tuple that starts with it.
        h: contexts, [B, S, D].
        a: candidates that all contexts share, [N, H, Da], or own candidates of each context, [B, N, H, Da].
        pad_mask: [B, S], True at positions of ``h`` to ignore.
        chunk: candidates in one pass (default: by size). Later chunks are computed again in the backward pass, so
            memory does not grow with N. A model whose pairs may depend on each other, by BatchNorm in training or by
            an operation without a rule, always scores all in one; only what it makes of their number, ``len(h)``, goes
            unnoticed.

    Raises:
        ValueError: shapes that do not fit, or a model that does not return an energy for each pair.
    """
    if h.dim() != 3 or a.dim() not in (3, 4) or (a.dim() == 4 and len(a) != len(h)):
        raise ValueError(f"expected h [B, S, D], a [N, H, Da] or [B, N, H, Da]; got {[*h.shape]}, {[*a.shape]}")
    model = unwrapped(energy_model)
    dtype = next((p.dtype for p in model.parameters() if p.is_floating_point()), h.dtype)
    candidates = a.to(dtype) if a.dim() == 4 else a.to(dtype).unsqueeze(0)  # [B or 1, N, H, Da]
    scores = _Scores(model, h.to(dtype), candidates, pad_mask)
    outer: Any = energy_model
    while hasattr(outer, "_orig_mod"):
        outer = outer._orig_mod
    if outer is model or not torch.is_grad_enabled():
        return scores.matrix(chunk)
    return _inside(outer, lambda: scores.matrix(chunk))


def materialised(energy_model: nn.Module) -> dict[str, int]:
    """Operations of the model's last call that had real copies, and how many there were of each, dropout not counted.

    Where the whole call had them, the only name is ``everything (REASON)``.
    """
    counts = _materialised.get(unwrapped(energy_model), Counter())
    return {name: count for name, count in counts.most_common() if "dropout" not in name}


class _Scores:
    """One call's inputs, and the ways to score them."""

    def __init__(self, model: nn.Module, h: Tensor, candidates: Tensor, pad_mask: Tensor | None) -> None:
        self.model, self.h, self.candidates, self.pad_mask = model, h, candidates, pad_mask
        self.rows, self.count = len(h), candidates.shape[1]

    def matrix(self, chunk: int | None) -> Tensor:
        """Energies [B, N], in passes of as many candidates as the model allows."""
        if self.rows * self.count == 0:
            return self._plain("there are none")
        if _has_compiled_parts(self.model):
            return self._plain("a part is compiled")
        size = chunk or max(1, _STEPS_PER_PASS // (self.rows * self.candidates.shape[2]))
        size = self.count if _mixes_pairs(self.model) else min(size, self.count)
        ways = {"plain"} | ({"few"} if chunk is None and self.rows < size else set())
        while True:
            ways |= {"whole"} if size < self.count else set()
            restore = _snapshot(self.model)
            try:
                return self._in_chunks(size, ways)
            except Rerun as rerun:
                way, reason = rerun.way, rerun.reason
                traceback.clear_frames(rerun.__traceback__)  # a checkpoint's hooks go with its frame
            except Exception as error:
                if is_out_of_memory(error):
                    raise
                way, reason = "plain", f"{type(error).__name__}: {error}".partition("\n")[0][:120]
                traceback.clear_frames(error.__traceback__)
            finally:
                ways.clear()  # a stand-in that the model has kept, and the backward pass, have no other way
            restore()
            if way == "plain":
                return self._plain(reason)
            size, ways = self.rows if way == "few" else self.count, {"plain"}

    def _plain(self, reason: str) -> Tensor:
        """All pairs at once, as any model can be called; if that raises too, the model is wrong."""
        _materialised[self.model] = Counter({f"everything ({reason})": 1})
        mask = None if self.pad_mask is None else self.pad_mask.repeat_interleave(self.count, dim=0)
        actions = self.candidates.expand(self.rows, -1, -1, -1).flatten(0, 1)
        return self._called(self.h.repeat_interleave(self.count, dim=0), actions, mask, self.count)

    def _in_chunks(self, size: int, ways: set[str]) -> Tensor:
        """Later chunks run again in the backward pass; what concerns contexts only they find in a memo."""
        parts = self.candidates.tensor_split(max(1, -(-self.count // size)), dim=1)
        run = Run(called, ways, {} if len(parts) > 1 else None)
        grids = [Grid(run, self.rows, part.shape[1], self.h.shape[1]) for part in parts]
        before = _versions(self.model) if len(parts) > 1 else []
        part = _drawing_as_now(self._part) if len(parts) > 1 else self._part
        energies = [self._part(parts[0], grids[0])]
        run.remembers_no_more = True
        if before and _versions(self.model) != before:
            run.notice("whole", "something that each call changes")
        for given in zip(parts[1:], grids[1:], strict=True):
            again = torch.is_grad_enabled()
            energies.append(checkpoint(part, *given, use_reentrant=False) if again else part(*given))
        run.check()
        _materialised[self.model] = run.materialised
        return torch.cat(energies, dim=1)

    def _part(self, part: Tensor, grid: Grid) -> Tensor:
        mask = None if self.pad_mask is None else grid.contexts(self.pad_mask)
        energies = self._called(grid.contexts(self.h), grid.candidates(part), mask, part.shape[1])
        grid.run.check()
        return energies

    def _called(self, h: Tensor, a: Tensor, mask: Tensor | None, count: int) -> Tensor:
        call: Any = self.model
        if type(self.model).__call__ is nn.Module.__call__:
            call = self.model._call_impl  # not what torch.compile has put in its place
        output = call(h, a, mask)
        output = output[0] if isinstance(output, (tuple, list)) else output
        if not isinstance(output, Tensor) or output.numel() != self.rows * count:
            seen = [*output.shape] if isinstance(output, Tensor) else type(output).__name__
            expected = f"{self.rows} x {count} pairs, [{self.rows * count}, 1]"
            raise ValueError(f"{type(self.model).__name__} must return an energy for each of {expected}; got {seen}")
        return plain(output).reshape(self.rows, count)


def _versions(model: nn.Module) -> list[Any]:
    """What tells whether a call has changed a buffer, or a number, of the model."""
    numbers = [
        value for module in model.modules() for value in vars(module).values() if isinstance(value, (int, float))
    ]
    return [(id(x), -1 if x.is_inference() else x._version) for x in model.buffers()] + numbers


def _drawing_as_now(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """With the numbers of Python's and NumPy's generators that come next: what a model draws, it draws once for all."""
    state = _random_state()

    def again(*args: Any) -> Tensor:
        now = _random_state()
        _set_random_state(*state)
        try:
            return function(*args)
        finally:
            _set_random_state(*now)

    return again


def _random_state() -> tuple[Any, Any]:
    numpy = sys.modules.get("numpy")
    return random.getstate(), numpy and numpy.random.get_state()


def _set_random_state(python: Any, numpy: Any) -> None:
    random.setstate(python)
    if numpy is not None:
        sys.modules["numpy"].random.set_state(numpy)


class _Call(nn.Module):
    """Calls a function where a model is called; the model's buffers are still found."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, function: Callable[[], Tensor]) -> Tensor:
        return function()


def _inside(outer: nn.Module, function: Callable[[], Tensor]) -> Tensor:
    """``function()``, with ``DistributedDataParallel`` seeing all passes of its module as one."""
    inner: nn.Module = outer.module  # type: ignore[assignment]
    outer.module = _Call(inner)
    try:
        return outer(function)  # type: ignore[no-any-return]
    finally:
        outer.module = inner


def _mixes_pairs(model: nn.Module) -> bool:
    return any(
        isinstance(module, nn.modules.batchnorm._BatchNorm) and (module.training or not module.track_running_stats)
        for module in model.modules()
    )


def _has_compiled_parts(model: nn.Module) -> bool:
    for module in model.modules():
        compiled = hasattr(module, "_orig_mod") or module._compiled_call_impl is not None
        if module is not model and compiled:
            if model not in _warned:
                _warned.add(model)
                warnings.warn(
                    f"energy_losses scores {type(model).__name__} pair by pair, because a part of it is compiled: "
                    "compile all of it, or nothing",
                    RuntimeWarning,
                    stacklevel=5,
                )
            return True
    return False


def _snapshot(model: nn.Module) -> Callable[[], None]:
    """What puts the model's buffers, attributes, lists and dicts back: a pass that is given up leaves no trace."""
    buffers = [(buffer, buffer.clone()) for buffer in model.buffers()]
    attributes = [(vars(module), dict(vars(module))) for module in model.modules()]
    containers = [(x, x.copy()) for _, before in attributes for x in before.values() if type(x) in _CONTAINERS]

    @torch.no_grad()
    def restore() -> None:
        for now, before in [*attributes, *containers]:
            now.clear()
            (now.extend if hasattr(now, "extend") else now.update)(before)
        for buffer, copy in buffers:
            buffer.copy_(copy)

    return restore


@contextlib.contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """The model in evaluation mode, every module's own flag restored after it."""
    flags = [(module, module.training) for module in model.modules()]
    try:
        for module, _ in flags:
            module.training = False
        yield
    finally:
        for module, flag in flags:
            module.training = flag

"""Energies of many candidate actions, with each context and each action encoded once.

The model is called with B * N pairs, as any model can be; but its inputs are ``Pairs``, which keep one copy of each
context and of each action for as long as an operation has a rule, so the result is that of plain pairs.
"""

import contextlib
import warnings
import weakref
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from .pairs import Grid, Rerun, plain
from .ranks import unwrapped

# Candidates beyond so many steps are scored in further chunks. A pass of 8192 steps fills a device, and takes about
# 0.3 GB with a hidden size of 512.
_STEPS_PER_PASS = 8192

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
            memory does not grow with N. A model whose pairs depend on each other, such as one with BatchNorm in
            training, always scores all in one.
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
    """Operations of the model's last call that had no rule, and how many there were of each, dropout not counted."""
    counts = _materialised.get(unwrapped(energy_model), Counter())
    return {name: count for name, count in counts.most_common() if "dropout" not in name}


class _Scores:
    """One call's inputs, and the ways to score them."""

    def __init__(self, model: nn.Module, h: Tensor, candidates: Tensor, pad_mask: Tensor | None) -> None:
        self.model, self.h, self.candidates, self.pad_mask = model, h, candidates, pad_mask
        self.rows, self.count = len(h), candidates.shape[1]

    def matrix(self, chunk: int | None) -> Tensor:
        """Energies [B, N], in passes of as many candidates as the model allows."""
        size = self.count if _mixes_pairs(self.model) else chunk or 0
        if self.rows * self.count == 0 or _has_compiled_parts(self.model):
            return self._in_chunks(size or max(1, self.rows), None)
        size = size or max(1, _STEPS_PER_PASS // (self.rows * self.candidates.shape[2]))
        refused = {"few"} if chunk is None and self.rows < min(size, self.count) else set()
        while True:
            refused |= {"whole"} if size < self.count else set()
            try:
                with _buffers_restored(self.model, Rerun):
                    energies = self._in_chunks(size, refused)
                refused.clear()  # what runs again in the backward pass has no other way
                return energies
            except Rerun as reason:
                if str(reason) == "plain":
                    return self._in_chunks(self.count, None)
                size, refused = self.rows if str(reason) == "few" else self.count, set()

    def _in_chunks(self, size: int, refused: set[str] | None) -> Tensor:
        """Later chunks run again in the backward pass; what concerns contexts only they find in a memo."""
        parts = self.candidates.tensor_split(max(1, -(-self.count // size)), dim=1)
        memo: dict[Any, Any] | None = {} if len(parts) > 1 else None
        counts = _materialised[self.model] = Counter()

        def score(part: Tensor) -> Tensor:
            return self._pairs(part) if refused is None else self._part(part, refused, memo, counts)

        energies = [score(parts[0])]
        for part in parts[1:]:
            again = torch.is_grad_enabled()
            energies.append(checkpoint(score, part, use_reentrant=False) if again else score(part))
        return torch.cat(energies, dim=1)

    def _part(self, part: Tensor, refused: set[str], memo: dict[Any, Any] | None, counts: Counter[str]) -> Tensor:
        grid = Grid(self.rows, part.shape[1], self.h.shape[1], refused, memo)
        mask = None if self.pad_mask is None else grid.contexts(self.pad_mask)
        call: Any = self.model._call_impl  # not what torch.compile has put in its place
        energies = _first(call(grid.contexts(self.h), grid.candidates(part), mask))
        counts.update(grid.materialised)
        return plain(energies).reshape(self.rows, -1)

    def _pairs(self, part: Tensor) -> Tensor:
        """As any model can be called."""
        mask = None if self.pad_mask is None else self.pad_mask.repeat_interleave(part.shape[1], dim=0)
        actions = part.expand(self.rows, -1, -1, -1).flatten(0, 1)
        h = self.h.repeat_interleave(part.shape[1], dim=0)
        call: Any = self.model._call_impl
        return _first(call(h, actions, mask)).reshape(self.rows, -1)


def _first(output: Any) -> Tensor:
    return output[0] if isinstance(output, (tuple, list)) else output  # type: ignore[no-any-return]


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


@contextlib.contextmanager
def _buffers_restored(model: nn.Module, error: type[Exception]) -> Iterator[None]:
    """A pass that is given up leaves no trace in the model's buffers."""
    before = [
        (module._buffers, name, buffer, buffer.clone())
        for module in model.modules()
        for name, buffer in module._buffers.items()
        if buffer is not None
    ]
    try:
        yield
    except error:
        with torch.no_grad():
            for buffers, name, buffer, copy in before:
                buffers[name] = buffer.copy_(copy)
        raise


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

"""For ``energy_losses.check``: what one process, with all ranks' batches, makes of a loss."""

import contextlib
import io
import sys
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from .check_losses import Batch, Loss, energies_of

_PAIRS_AT_A_TIME = 16


class _Pairs:
    """Energies of plain pairs, in the place of ``energy_matrix``: a few at a time, once without gradients, and once
    more with them when the loss has said what it does with each energy. So memory does not grow with their number."""

    def __init__(self, widths: list[int]) -> None:
        self._widths = widths
        self.tables: list[tuple[Tensor, Tensor]] = []  # energies [B, N] and their actions, for the backward pass
        self._backward: list[Callable[[], None]] = []

    def __call__(
        self, model: nn.Module, h: Tensor, a: Tensor, pad_mask: Tensor | None = None, *, chunk: int | None = None
    ) -> Tensor:
        actions = a if a.dim() == 4 else a.expand(len(h), *a.shape)
        with torch.no_grad():
            table = torch.cat(list(self._parts(model, h, actions, pad_mask))).view(actions.shape[:2])
        if torch.is_grad_enabled():
            self.tables.append((table.requires_grad_(), actions))
            self._backward.append(lambda: self._again(table, self._parts(model, h, actions, pad_mask)))
        return table

    def backward(self) -> None:
        for step in self._backward:
            step()

    def _parts(self, model: nn.Module, h: Tensor, actions: Tensor, mask: Tensor | None) -> Iterator[Tensor]:
        widths = self._widths if len(self._widths) == len(h) else [h.shape[1]] * len(h)
        for row, width in enumerate(widths):  # each context as wide as on its rank
            for part in torch.split(actions[row], _PAIRS_AT_A_TIME):
                count = len(part)
                own = None if mask is None else mask[row, :width].expand(count, -1)
                yield energies_of(model, h[row, :width].expand(count, -1, -1), part, own)

    @staticmethod
    def _again(table: Tensor, parts: Iterator[Tensor]) -> None:
        if table.grad is None:
            return
        gradients = [part for row in table.grad for part in torch.split(row, _PAIRS_AT_A_TIME)]
        for energies, gradient in zip(parts, gradients, strict=True):
            torch.autograd.backward(energies, gradient)


def pairwise_energies(model: nn.Module, h: Tensor, a: Tensor, mask: Tensor) -> Tensor:
    """[B, N], of plain pairs, where ``energy_matrix`` takes the same arguments."""
    return _Pairs([])(model, h, a, mask)


def alone_backward(loss: Loss, model: nn.Module, batches: list[Batch], seed: int, share: float) -> bool:
    """Add ``share`` times a loss's gradient in one process with all ranks' batches, in one or, for a loss that keeps to
    a rank's own, one after the other; whether it pulls the energies of the rows' own actions down and others' up.

    The loss is the folder's own, but it sees no process group and no scoring but that of plain pairs.
    """
    pulls = True
    for batch in [_whole(batches)] if loss.spans_ranks else batches:
        pairs = _Pairs(batch.widths)
        with contextlib.ExitStack() as stack:
            stack.enter_context(mock.patch.object(dist, "is_initialized", return_value=False))
            stack.enter_context(contextlib.redirect_stdout(io.StringIO()))  # its first-step line
            for module in _users_of_scoring():
                stack.enter_context(mock.patch.object(module, "energy_matrix", pairs))
            stack.enter_context(SameDraws(seed))
            value = loss(model, batch)
        if share:
            torch.autograd.backward(value * (share if loss.spans_ranks else share / len(batches)))
            pairs.backward()
            pulls = pulls and all(_pulls_own(table, actions, batch.a) for table, actions in pairs.tables)
    return pulls


def _users_of_scoring() -> list[Any]:
    modules = [module for name, module in sys.modules.items() if name.startswith(f"{__package__}.")]
    return [module for module in modules if hasattr(module, "energy_matrix")]


def _pulls_own(table: Tensor, actions: Tensor, own: Tensor) -> bool:
    if table.grad is None or len(table) != len(own):
        return True
    is_own = (actions == own[:, None]).flatten(2).all(dim=2)
    return bool(table.grad[is_own].sum() >= 0 >= table.grad[~is_own].sum())


class SameDraws(TorchFunctionMode):
    """While it lasts, all rows draw the same random numbers, so that they do not depend on how rows are dealt to ranks.

    It knows ``rand``, ``randn`` and their ``_like``, without a generator of the caller's own.
    """

    def __init__(self, seed: int) -> None:
        super().__init__()
        self._generator = torch.Generator().manual_seed(seed)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        name = getattr(func, "__name__", "").removesuffix("_like")
        if name not in ("rand", "randn") or kwargs.get("generator") is not None or result.dim() == 0:
            return result
        draw = getattr(torch, name)(result.shape[1:], generator=self._generator)
        return result.copy_(draw.to(result).expand_as(result))


def _whole(batches: list[Batch]) -> Batch:
    """All ranks' batches in one, padded as a collator pads them."""
    widest = max(batch.h.shape[1] for batch in batches)
    hs, masks = [], []
    for batch in batches:
        missing = widest - batch.h.shape[1]
        hs.append(F.pad(batch.h, (0, 0, 0, missing)))
        masks.append(F.pad(batch.mask, (0, missing), value=True))
    layers = [torch.cat(same) for same in zip(*(batch.layers for batch in batches), strict=True)]
    widths = [width for batch in batches for width in batch.widths]
    return Batch(torch.cat(hs), torch.cat([batch.a for batch in batches]), torch.cat(masks), layers, widths)

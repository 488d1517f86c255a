"""A tensor of B x N pairs that keeps one copy of what is equal.

A model that is called with ``Pairs`` sees the shapes, dtypes and values of B * N pairs. What is kept of a dimension of
that size are three axes, of which the first is 1 where all contexts have equal values, the second where all candidates
have:

    contexts   [B * N, S, D]   kept as [B, 1, 1, S, D]        an operation on them runs B times,
    candidates [B * N, H, Da]  kept as [1, N, 1, H, Da]       on these N times,
    both       [B * N, H, E]   kept as [B, N, 1, H, E]        and broadcasts where they meet.

(The third axis holds what a model merges with its batch: attention heads, positions.) So a rule, in ``pair_rules``,
only says where the axes go. What no rule knows gets plain tensors of all pairs: slower, but the same. What is kept is
never written, so it may stand in many places; an operation in place gives its tensor something new to keep.
"""

from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


class NoRule(Exception):
    """A rule does not apply; the operation gets plain tensors, of all pairs, which it may mix."""


class EachPair(NoRule):
    """A rule does not apply, but the operation treats each pair by itself."""


class Rerun(BaseException):
    """The model must be called with plain tensors ("plain"), all pairs at once ("whole"), or fewer of them ("few").

    Not an ``Exception``, which a model may catch.
    """

    def __init__(self, way: str, reason: str) -> None:
        super().__init__(way, reason)
        self.way, self.reason = way, reason


def names(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Of the shape, the dtype or the object: answered by the stand-in itself, as are attributes that are no views.
_NATIVE = names("""
    size dim ndimension numel nelement __len__ is_floating_point is_complex is_signed element_size __hash__
    is_tensor get_device is_contiguous is_same_size is_inference stride""")
_NESTED = Tensor, tuple, list, dict
_VIEWS = names("data__get__ T__get__ mT__get__ H__get__ mH__get__")


class Run:
    """A call of the model, in one or several chunks: the ways it may still change to, and what it has met."""

    def __init__(self, call: Callable[..., Any], ways: set[str], memo: dict[Any, Any] | None) -> None:
        self.call = call  # what gives an operation's result
        self.ways = ways  # none are left when the run is over
        self.memo = memo  # results that do not depend on candidates, for the other chunks; None if there is one
        self.remembers_no_more = False  # what a later chunk does not find there, it would not find in its own results
        self.stopped: tuple[str, str] | None = None
        self.materialised: Counter[str] = Counter()
        self.watched: list[tuple[Tensor, int]] = []  # copies that the model sees, and their versions

    def notice(self, way: str, reason: str) -> None:
        if way == "whole":
            self.ways.discard("few")
        if way in self.ways:
            self.stopped = way, reason
            raise Rerun(way, reason)

    def check(self) -> None:
        """Raise what the model's own code may have caught, and notice what it wrote into a copy."""
        if self.stopped is not None:
            raise Rerun(*self.stopped)
        changed = any(copy._version != version for copy, version in self.watched)
        self.watched.clear()
        if changed:
            self.notice("plain", "written through a view")


class Grid:
    """The pairs of a chunk."""

    def __init__(self, run: Run, rows: int, columns: int, length: int) -> None:
        self.run, self.rows, self.columns, self.pairs, self.length = run, rows, columns, rows * columns, length

    def contexts(self, x: Tensor) -> "Pairs":
        """[B, ...]"""
        given = wrapped(x[:, None, None], 0, self)
        given.fixed = True
        return given  # type: ignore[no-any-return]

    def candidates(self, x: Tensor) -> "Pairs":
        """[B or 1, N, H, Da]"""
        return wrapped(x.unsqueeze(2), 0, self)  # type: ignore[no-any-return]


class Pairs(Tensor):
    """Stands for the tensor whose dimension ``at`` are all pairs; ``kept`` has three axes there, [B or 1, N or 1, _].

    ``fixed``: does not depend on candidates. ``checks``: only says which values are finite. ``twins``: tensors that
    have the same memory, as the model sees it.
    """

    kept: Tensor
    at: int
    grid: Grid
    fixed: bool
    checks: bool
    twins: list[Callable[[], Tensor | None]] | None
    attached: Tensor | None

    @staticmethod
    def __new__(cls, kept: Tensor, at: int, grid: Grid) -> "Pairs":
        shape = (*kept.shape[:at], grid.pairs * kept.shape[at + 2], *kept.shape[at + 3 :])
        self: Pairs = Tensor._make_wrapper_subclass(cls, shape, dtype=kept.dtype, device=kept.device)
        self.kept, self.at, self.grid = kept, at, grid
        self.fixed, self.checks, self.twins, self.attached = False, False, None, None
        return self

    def plain(self, name: str = "") -> Tensor:
        """All pairs as a plain tensor, for the operation of that name."""
        rows, columns = self.kept.shape[self.at : self.at + 2]
        if name and (rows, columns) != (self.grid.rows, self.grid.columns):
            self.grid.run.materialised[name] += 1
            if is_context(self):
                self.grid.run.notice("few", name)
        axes = self.grid.rows, self.grid.columns
        spread = self.kept.expand(*self.kept.shape[: self.at], *axes, *self.kept.shape[self.at + 2 :])
        return spread.flatten(self.at, self.at + 2).contiguous()

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if not args and "input" in kwargs:
            args, kwargs = (kwargs["input"],), {name: x for name, x in kwargs.items() if name != "input"}
        name = func.__name__
        if name in ("__get__", "__set__"):
            name = func.__self__.__name__ + name
        if name in _NATIVE or (name.endswith("__get__") and name not in _VIEWS):
            with torch._C.DisableTorchFunctionSubclass():
                return func(*args, **kwargs)
        operands = pairs_in((args, kwargs))
        return operands[0].grid.run.call(func, name, operands, args, kwargs)

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # type: ignore[override]
        """What no rule can see: an operation in C++."""
        name = func.__name__.partition(".")[0]
        first = pairs_in((args, kwargs))[0]
        if name == "copy_" and isinstance(args[0], Pairs) and isinstance(args[1], Pairs):
            args[0].kept, args[0].at, args[0].attached = args[1].kept, args[1].at, None
            return args[0]
        if name in ("detach", "alias"):
            return detached(first)
        first.grid.run.notice("plain", name)
        return func(*copies(name, args), **copies(name, kwargs or {}))


class _Connect(torch.autograd.Function):
    """A gradient that reaches a stand-in goes on to what it keeps."""

    @staticmethod
    def forward(ctx: Any, kept: Tensor, at: int, grid: Grid) -> Pairs:
        ctx.shape, ctx.at, ctx.grid = kept.shape, at, grid
        return Pairs(kept, at, grid)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        axes = ctx.grid.rows, ctx.grid.columns, ctx.shape[ctx.at + 2]
        return unflatten(gradients[0], ctx.at, axes).sum_to_size(ctx.shape), None, None


def wrapped(result: Any, at: int, grid: Grid) -> Any:
    """What is to be kept as the tensor of pairs that the model sees; also a tuple or list of them."""
    if not isinstance(result, Tensor):
        return type(result)([wrapped(x, at, grid) for x in result])
    if torch.is_grad_enabled() and result.requires_grad:
        return _Connect.apply(result, at, grid)  # type: ignore[no-untyped-call]
    return Pairs(result, at, grid)


def unflatten(x: Any, at: int, sizes: Any) -> Any:
    return x.unflatten(at, sizes)


def tensors(operands: Any) -> list[Tensor]:
    """The tensors in nested tuples, lists and dicts."""
    if isinstance(operands, Tensor):
        return [operands]
    if isinstance(operands, dict):
        operands = operands.values()
    elif not isinstance(operands, (tuple, list)):
        return []
    return [y for x in operands if isinstance(x, _NESTED) for y in ([x] if isinstance(x, Tensor) else tensors(x))]


def pairs_in(operands: Any) -> list[Pairs]:
    return [x for x in tensors(operands) if isinstance(x, Pairs)]


def replaced(function: Callable[[Tensor], Any], operands: Any) -> Any:
    """Nested tuples, lists and dicts with the function's result in each tensor's place."""
    if isinstance(operands, Tensor):
        return function(operands)
    if isinstance(operands, dict):
        return {name: replaced(function, x) for name, x in operands.items()}
    if not isinstance(operands, (tuple, list)) or isinstance(operands, torch.Size):
        return operands
    values = [replaced(function, x) for x in operands]
    return type(operands)(*values) if hasattr(operands, "_fields") else type(operands)(values)


def is_context(x: Pairs) -> bool:
    """Whether repeating it means to repeat whole contexts: positions with several features."""
    rows, columns = x.kept.shape[x.at : x.at + 2]
    return columns < x.grid.columns and x.grid.length in x.shape and x.kept.numel() > rows * x.grid.length


def is_out_of_memory(error: BaseException) -> bool:
    return isinstance(error, (MemoryError, torch.cuda.OutOfMemoryError)) or "can't allocate memory" in str(error)


def detached(x: Pairs) -> Pairs:
    same = Pairs(x.kept.detach(), x.at, x.grid)
    same.fixed = x.fixed
    same.attached = x.kept if x.attached is None else x.attached
    return same


def is_opaque(x: Pairs) -> bool:
    """Whether autograd knows more of it than what it keeps: a leaf, or the output of an ``autograd.Function``."""
    with torch._C.DisableTorchFunctionSubclass():
        if not x.requires_grad or type(x.grad_fn).__name__ not in ("_ConnectBackward", "CopyBackwards"):
            return x.requires_grad
    if x.attached is not None:  # a checkpoint has saved it detached, and now restored its place in the graph
        x.kept, x.attached = x.attached, None
    return False


def plain(x: Tensor) -> Tensor:
    """What a model returned, as a plain tensor."""
    if not isinstance(x, Pairs):
        return x
    if is_opaque(x):
        x.grid.run.notice("plain", "a backward hook")
    return x.plain()


def copies(name: str, operands: Any) -> Any:
    return replaced(lambda x: x.plain(name) if isinstance(x, Pairs) else x, operands)

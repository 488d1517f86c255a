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

import contextlib
import weakref
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks


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


class Run:
    """A call of the model, in one or several chunks: the ways it may still change to, and what it has met."""

    def __init__(self, rules: dict[str, Callable[..., Any]], ways: set[str], memo: dict[Any, Any] | None) -> None:
        self.rules = rules
        self.ways = ways  # none are left when the run is over
        self.memo = memo  # results that do not depend on candidates, for the other chunks; None if there is one
        self.stopped: Rerun | None = None
        self.materialised: Counter[str] = Counter()
        self.watched: list[tuple[Tensor, int]] = []  # copies that the model sees, and their versions

    def notice(self, way: str, reason: str) -> None:
        if way in self.ways:
            self.stopped = Rerun(way, reason)
            raise self.stopped

    def check(self) -> None:
        """Raise what the model's own code may have caught, and notice what it wrote into a copy."""
        if self.stopped is not None:
            raise self.stopped
        if any(copy._version != version for copy, version in self.watched):
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
        kwargs = dict(kwargs or {})
        if not args and "input" in kwargs:
            args = (kwargs.pop("input"),)
        name = func.__name__ if func.__name__ not in ("__get__", "__set__") else func.__self__.__name__ + func.__name__
        if name in NATIVE or (name.endswith("__get__") and name not in VIEWS):
            with torch._C.DisableTorchFunctionSubclass():
                return func(*args, **kwargs)
        operands = [x for x in tensors((args, kwargs)) if isinstance(x, Pairs)]
        trouble = _trouble(name, operands)
        if trouble:
            for x in operands:
                x.grid.run.notice("plain", trouble)
            return func(*_plain("", args), **_plain("", kwargs))
        written = _written(name, args, kwargs)
        if written is not None:
            return _write(func, name, written, args, kwargs)
        return _result(func, name, operands, args, kwargs)

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # type: ignore[override]
        """What no rule can see: an operation in C++."""
        name = func.__name__.partition(".")[0]
        first = next(x for x in tensors((args, kwargs)) if isinstance(x, Pairs))
        if name == "copy_" and isinstance(args[0], Pairs) and isinstance(args[1], Pairs):
            args[0].kept, args[0].at, args[0].attached = args[1].kept, args[1].at, None
            return args[0]
        if name in ("detach", "alias"):
            return detached(first)
        first.grid.run.notice("plain", name)
        return func(*_plain(name, args), **_plain(name, kwargs or {}))


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


def tensors(operands: Any) -> Iterator[Tensor]:
    """The tensors in nested tuples, lists and dicts."""
    if isinstance(operands, Tensor):
        yield operands
    elif isinstance(operands, (tuple, list)):
        for x in operands:
            yield from tensors(x)
    elif isinstance(operands, dict):
        for x in operands.values():
            yield from tensors(x)


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


def _is_opaque(x: Pairs) -> bool:
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
    if _is_opaque(x):
        x.grid.run.notice("plain", "a backward hook")
    return x.plain()


def _plain(name: str, operands: Any) -> Any:
    return replaced(lambda x: x.plain(name) if isinstance(x, Pairs) else x, operands)


# ------------------------------------------------------------------------------------------------- one operation's way


def _trouble(name: str, operands: list[Pairs]) -> str:
    """Why only plain tensors will do, if so."""
    if any(x.grid is not operands[0].grid for x in operands):
        return f"{name} with a tensor of another call"
    if any(_is_opaque(x) for x in operands):
        return f"{name} after an autograd.Function or a backward hook"
    if torch._C._are_functorch_transforms_active():
        return f"{name} in torch.func"
    return name if name in NEEDS_PLAIN or name.endswith("__set__") else ""


def _result(func: Any, name: str, operands: list[Pairs], args: Any, kwargs: Any) -> Any:
    try:
        result = _recalled(func, name, operands, args, kwargs)
    except NoRule as none:
        return _without_rule(func, name, operands, args, kwargs, isinstance(none, EachPair))
    if name in VIEWS:
        for x in tensors(result):
            if isinstance(x, Pairs) and x is not operands[0]:
                _twins(operands[0]).append(weakref.ref(x))
                x.twins = operands[0].twins
    return result


def _recalled(func: Any, name: str, operands: list[Pairs], args: Any, kwargs: Any) -> Any:
    """The rule's result, from the memo if no operand depends on candidates and an equal operation has been there."""
    grid = operands[0].grid
    memo, key = grid.run.memo, None
    if memo is not None and all(x.fixed for x in operands):
        key = _key(func, name, args, kwargs)
    if memo is None or key is None:
        return _by_rule(func, name, operands, args, kwargs)
    if key in memo:
        return replaced(lambda x: _fixed(wrapped(x.kept, x.at, grid)), memo[key][0])  # type: ignore[attr-defined]
    # Saved here for all chunks, outside of the checkpoint that this chunk may run in.
    with saved_tensors_hooks(lambda x: x, lambda x: x):
        result = _by_rule(func, name, operands, args, kwargs)
    if all(isinstance(x, Pairs) for x in tensors(result)):
        # The operands are held, so that no other tensor gets their identity.
        held = [x.kept if isinstance(x, Pairs) else x for x in tensors((args, kwargs))]
        memo[key] = replaced(lambda x: Pairs(x.kept, x.at, grid), result), held  # type: ignore[attr-defined]
    return result


def _fixed(x: Pairs) -> Pairs:
    x.fixed = True
    return x


def _key(func: Any, name: str, args: Any, kwargs: Any) -> Any:
    """What makes two operations the same; None for those that draw random numbers or make tensors to be filled."""
    draws = name == "scaled_dot_product_attention" and (kwargs.get("dropout_p") or any(args[4:5]))
    if draws or name.startswith("new_") or name.endswith("_like") or "dropout" in name or name in COMPOSED:
        return None
    try:
        key = func, _mode(args[0] if args else None), _identity((args, kwargs))
        hash(key)
    except TypeError:
        return None
    return key


def _mode(x: Any) -> Any:
    device = next((y.device.type for y in tensors(x)), "cpu")
    try:
        autocast: Any = torch.is_autocast_enabled(device) and torch.get_autocast_dtype(device)
    except (TypeError, AttributeError):  # before torch 2.4
        autocast = torch.is_autocast_enabled() and torch.get_autocast_gpu_dtype()
        autocast = autocast, torch.is_autocast_cpu_enabled() and torch.get_autocast_cpu_dtype()
    return torch.is_grad_enabled(), torch.is_inference_mode_enabled(), autocast


def _identity(x: Any) -> Any:
    """What makes two operands the same: the memory seen and its version, or a number and its type."""
    if isinstance(x, Pairs):
        return _identity(x.kept), x.at
    if isinstance(x, Tensor):
        base = x if x._base is None else x._base
        version = -1 if x.is_inference() else x._version
        return id(base), x.storage_offset(), x.shape, x.stride(), version, x.dtype, x.requires_grad
    if isinstance(x, slice):
        return slice, _identity((x.start, x.stop, x.step))
    if isinstance(x, (tuple, list)):
        return type(x), *map(_identity, x)
    if isinstance(x, dict):
        return tuple((name, _identity(value)) for name, value in x.items())
    if x is None or x is Ellipsis or isinstance(x, (bool, int, float, str, torch.dtype, torch.device)):
        return type(x), x
    raise TypeError(type(x))


def _by_rule(func: Any, name: str, operands: list[Pairs], args: Any, kwargs: Any) -> Any:
    rule = operands[0].grid.run.rules.get(name)
    if rule is None:
        raise NoRule
    try:
        result = rule(func, *args, **kwargs)
    # If the model is wrong, plain tensors show it. Not any Exception: a checkpoint stops its recomputation by one.
    except (TypeError, ValueError, LookupError, AttributeError, RuntimeError, ArithmeticError, StopIteration) as error:
        if is_out_of_memory(error):
            raise
        raise NoRule from error
    fixed = all(x.fixed for x in operands)
    checks = name in CHECKS or all(x.checks for x in operands)
    for x in tensors(result):
        if isinstance(x, Pairs) and not any(x is y for y in operands):
            x.fixed, x.checks = fixed, checks
    return result


def _without_rule(func: Any, name: str, operands: list[Pairs], args: Any, kwargs: Any, each: bool) -> Any:
    """The result of plain tensors, still known to be of pairs unless it has the memory of an operand."""
    run = operands[0].grid.run
    if not each:
        run.notice("whole", name)
    copies: list[tuple[Pairs, Tensor]] = []

    def copy(x: Tensor) -> Tensor:
        if isinstance(x, Pairs):
            copies.append((x, x.plain(name)))
        return copies[-1][1] if isinstance(x, Pairs) else x

    result = func(*replaced(copy, args), **replaced(copy, kwargs))
    views = [(x, y) for x, y in copies if any(_same_memory(y, z) for z in tensors(result))]
    for x, y in views:
        if y.is_inference():
            run.notice("plain", name)  # there is no version to watch
        else:
            _twins(x).append(lambda y=y: y)  # type: ignore[misc]
            run.watched.append((y, y._version))
    return result if views else replaced(lambda y: _as_pairs(operands[0], y), result)


def _same_memory(x: Tensor, y: Tensor) -> bool:
    return y.layout == torch.strided and x.untyped_storage().data_ptr() == y.untyped_storage().data_ptr() != 0


def _twins(x: Pairs) -> list[Callable[[], Tensor | None]]:
    x.twins = [weakref.ref(x)] if x.twins is None else x.twins
    return x.twins


def _as_pairs(like: Pairs, x: Tensor) -> Tensor:
    grid, inner = like.grid, like.kept.shape[like.at + 2]
    if type(x) is not Tensor or x.dim() <= like.at or x.shape[like.at] != grid.pairs * inner:
        return x
    return wrapped(unflatten(x, like.at, (grid.rows, grid.columns, inner)), like.at, grid)  # type: ignore[no-any-return]


def _written(name: str, args: Any, kwargs: Any) -> Any:
    """What the operation writes, or None."""
    if kwargs.get("out") is not None:
        return kwargs["out"]
    in_place = kwargs.get("inplace") or name in IN_PLACE or (name.endswith("_") and not name.endswith("__"))
    return args[0] if in_place and args else None


def _write(func: Any, name: str, written: Any, args: Any, kwargs: Any) -> Any:
    run = next(x for x in tensors((args, kwargs)) if isinstance(x, Pairs)).grid.run
    if not isinstance(written, Pairs):
        run.notice("plain" if any(isinstance(x, Pairs) for x in tensors(written)) else "whole", name)
        return func(*_plain(name, args), **_plain(name, kwargs))
    if written is kwargs.get("out"):
        run.notice("plain", name)
    if any(twin() is not None and twin() is not written for twin in written.twins or ()):
        run.notice("plain", f"{name} on a tensor whose memory another tensor has")
    if written.kept.requires_grad and not torch.is_grad_enabled():
        run.notice("plain", f"{name} with gradients disabled")
    new = _out_of_place(func, name, written, args[1:], {**kwargs, "inplace": False} if "inplace" in kwargs else kwargs)
    if not isinstance(new, Pairs) or new.shape != written.shape or not torch.can_cast(new.dtype, written.dtype):
        run.notice("plain", name)
        return new
    written.fixed, written.checks = new.fixed, new.checks
    with torch._C.DisableTorchFunctionSubclass():
        return written.copy_(wrapped(new.kept.to(written.dtype), new.at, new.grid))


def _out_of_place(func: Any, name: str, x: Pairs, args: Any, kwargs: Any) -> Any:
    """The result of an operation in place as a new tensor."""
    if "inplace" in kwargs:
        return func(x, *args, **kwargs)
    if name == "__setitem__":
        with contextlib.suppress(NoRule):
            return _by_rule(func, name, [x], (x, *args), kwargs)
    other = "__" + name[3:] if name in IN_PLACE else name[:-1]
    function = next((getattr(place, other) for place in (Tensor, F, torch) if hasattr(place, other)), None)
    if other in x.grid.run.rules and function is not None:
        return function(x, *args, **kwargs)
    if name not in FILLS:
        x.grid.run.notice("whole", name)
    copy = x.plain(name).clone()
    func(copy, *_plain(name, args), **_plain(name, kwargs))
    return _as_pairs(x, copy)


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Of the shape, the dtype or the object: answered by the stand-in itself.
NATIVE = _names("""
    size dim ndimension numel nelement __len__ is_floating_point is_complex is_signed element_size __hash__
    is_tensor get_device is_contiguous is_same_size is_inference stride""")
# Of one tensor's place in the graph or in memory, which a stand-in does not have.
NEEDS_PLAIN = _names("""
    grad backward register_hook register_post_accumulate_grad_hook retain_grad requires_grad_ detach_ numpy __array__
    data_ptr storage untyped_storage __dlpack__ share_memory_ set_ resize_ resize_as_ as_strided_""")
# The result may have the memory of the operand.
VIEWS = _names("""
    view reshape flatten unflatten squeeze unsqueeze view_as reshape_as permute transpose swapaxes swapdims movedim
    moveaxis t T__get__ mT__get__ H__get__ mH__get__ expand expand_as select narrow unbind split chunk tensor_split
    __getitem__ to type type_as float double half bfloat16 bool int long contiguous cpu cuda detach data__get__""")
IN_PLACE = _names("__setitem__ __iadd__ __isub__ __imul__ __itruediv__ __ipow__ __iand__ __ior__ __ixor__ __imod__")
FILLS = _names("zero_ fill_ normal_ uniform_ bernoulli_ exponential_ random_ log_normal_ cauchy_ geometric_ copy_")
# Of finite values they say the same whatever the values are.
CHECKS = _names("isfinite isnan isinf")
# Their parts are remembered, and a part may draw random numbers.
COMPOSED = _names("multi_head_attention_forward stack")

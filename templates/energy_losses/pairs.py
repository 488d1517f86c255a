"""A tensor of B x N pairs that keeps one copy of what is equal.

A model that is called with ``Pairs`` sees the shapes, dtypes and values of B * N pairs. What is kept of a dimension of
that size are three axes, of which the first is 1 where all contexts have equal values, the second where all candidates
have:

    contexts   [B * N, S, D]   kept as [B, 1, 1, S, D]        an operation on them runs B times,
    candidates [B * N, H, Da]  kept as [1, N, 1, H, Da]       on these N times,
    both       [B * N, H, E]   kept as [B, N, 1, H, E]        and broadcasts where they meet.

(The third axis holds what a model merges with its batch: attention heads, positions.) So a rule, below, only says where
the axes go. What no rule knows gets plain tensors of all pairs: slower, but the same.
"""

import math
from collections import Counter
from collections.abc import Callable, Container
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks
from torch.utils._pytree import tree_flatten, tree_map


class NoRule(Exception):
    """A rule does not apply; the operation gets plain tensors."""


class Rerun(Exception):
    """The model must be called in another way: "plain" tensors, all pairs at once ("whole"), or fewer ("few")."""


class Grid:
    """What the tensors of one call of the model share."""

    def __init__(self, rows: int, columns: int, length: int, refused: Container[str] = (), memo: Any = None) -> None:
        self.rows, self.columns, self.pairs, self.length = rows, columns, rows * columns, length
        self.refused = refused  # reasons to stop and to call the model in another way
        self.memo = memo  # results that do not depend on candidates, for the other chunks; None if there is one
        self.borrowed: set[int] = set()  # storages of the caller, which no operation may write
        self.materialised: Counter[str] = Counter()

    def notice(self, reason: str) -> None:
        if reason in self.refused:
            raise Rerun(reason)

    def contexts(self, x: Tensor) -> "Pairs":
        return self._given(x[:, None, None], fixed=True)

    def candidates(self, x: Tensor) -> "Pairs":
        """[B or 1, N, H, Da]"""
        return self._given(x.unsqueeze(2), fixed=False)

    def _given(self, x: Tensor, fixed: bool) -> "Pairs":
        self.borrowed.add(x.untyped_storage().data_ptr())
        given = _pairs(x, 0, self)
        given.fixed, given.shared = fixed, False
        return given


class Pairs(Tensor):
    """Stands for the tensor whose dimension ``at`` are all pairs; ``kept`` has three axes there, [B or 1, N or 1, _].

    ``fixed``: does not depend on candidates. ``shared``: another tensor has the same memory.
    """

    kept: Tensor
    at: int
    grid: Grid
    fixed: bool
    shared: bool
    attached: Tensor | None

    @staticmethod
    def __new__(cls, kept: Tensor, at: int, grid: Grid) -> "Pairs":
        shape = (*kept.shape[:at], grid.pairs * kept.shape[at + 2], *kept.shape[at + 3 :])
        self: Pairs = Tensor._make_wrapper_subclass(cls, shape, dtype=kept.dtype, device=kept.device)
        self.kept, self.at, self.grid, self.fixed, self.shared, self.attached = kept, at, grid, False, False, None
        return self

    def plain(self, name: str = "") -> Tensor:
        """All pairs as a plain tensor."""
        rows, columns = self.kept.shape[self.at : self.at + 2]
        if name and (rows, columns) != (self.grid.rows, self.grid.columns):
            self.grid.materialised[name] += 1
            if _is_context(self):
                self.grid.notice("few")
        return _spread(self.kept, self.at, self.grid).flatten(self.at, self.at + 2).contiguous()

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = func.__name__ if func.__name__ not in ("__get__", "__set__") else func.__self__.__name__ + func.__name__
        given = [x for x in tree_flatten((args, kwargs))[0] if isinstance(x, Pairs)]
        is_attribute = name.endswith("__get__") and name not in ("data__get__", "mT__get__")
        if name in NATIVE or is_attribute or sum(_is_opaque(x) for x in given):
            with torch._C.DisableTorchFunctionSubclass():
                return func(*args, **kwargs)
        if name in NEEDS_PLAIN and (name != "grad" or any(isinstance(x, Pairs) for x in tree_flatten(args[1:])[0])):
            raise Rerun("plain")
        if (name in IN_PLACE or kwargs.get("inplace") or name.rstrip("_") + "_" == name) and isinstance(args[0], Pairs):
            return _in_place(func, name, *args, **kwargs)
        if name in ("detach", "data__get__"):
            return _detached(args[0])
        result = _recalled(func, name, given, args, kwargs)
        for x in tree_flatten(result)[0]:
            if isinstance(x, Pairs) and not any(x is y for y in given):
                x.fixed = all(y.fixed for y in given)
                for y in given:
                    if _storage(x) == _storage(y):
                        x.shared = y.shared = True
        return result

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # type: ignore[override]
        """What no rule can see: an operation in C++ or in an ``autograd.Function``, whose gradient finds its way."""
        name, first = func.__name__.partition(".")[0], _first((args, kwargs))
        if name == "copy_" and isinstance(args[0], Pairs) and isinstance(args[1], Pairs):
            args[0].kept = args[1].kept
            return args[0]
        if func._schema.is_mutable:
            raise Rerun("plain")
        if name in ("detach", "alias"):
            return _detached(first)
        if _in_functorch():
            first.grid.notice("whole")
        result = func(*_plain(name, args), **_plain(name, kwargs or {}))
        _keeps_pairs(first, result)
        return result


class _Connect(torch.autograd.Function):
    """A gradient that reaches a stand-in goes on to what it keeps."""

    @staticmethod
    def forward(ctx: Any, kept: Tensor, at: int, grid: Grid) -> Pairs:
        ctx.shape, ctx.at, ctx.grid = kept.shape, at, grid
        return Pairs(kept, at, grid)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        axes = ctx.grid.rows, ctx.grid.columns, ctx.shape[ctx.at + 2]
        return _unflatten(gradients[0], ctx.at, axes).sum_to_size(ctx.shape), None, None


def _pairs(kept: Tensor, at: int, grid: Grid) -> Pairs:
    if torch.is_grad_enabled() and kept.requires_grad:
        return _Connect.apply(kept, at, grid)  # type: ignore[no-any-return,no-untyped-call]
    return Pairs(kept, at, grid)


def _put(x: Pairs, kept: Tensor) -> Pairs:
    """``kept`` in the place of what ``x`` kept so far, for autograd too."""
    with torch._C.DisableTorchFunctionSubclass():
        return x.copy_(_pairs(kept, x.at, x.grid))  # type: ignore[return-value]


def _wrapped(result: Any, at: int, grid: Grid) -> Any:
    if isinstance(result, Tensor):
        return _pairs(result, at, grid)
    return type(result)([_wrapped(x, at, grid) for x in result])


def _is_opaque(x: Pairs) -> bool:
    """Whether autograd knows more of it than what it keeps: a leaf, or the output of an ``autograd.Function``."""
    with torch._C.DisableTorchFunctionSubclass():
        if not x.requires_grad or type(x.grad_fn).__name__ not in ("_ConnectBackward", "CopyBackwards"):
            return x.requires_grad
    if x.attached is not None:  # autograd has saved it detached, and now restored its place in the graph
        x.kept, x.attached = x.attached, None
    return False


def _detached(x: Pairs) -> Pairs:
    same = Pairs(x.kept.detach(), x.at, x.grid)
    same.fixed, same.shared = x.fixed, True
    same.attached = x.kept if x.attached is None else x.attached
    return same


def _is_context(x: Pairs) -> bool:
    """Whether repeating it means to repeat whole contexts: positions with several features."""
    rows, columns = x.kept.shape[x.at : x.at + 2]
    return columns < x.grid.columns and x.grid.length in x.shape and x.kept.numel() > rows * x.grid.length


def _storage(x: Pairs) -> int:
    return x.kept.untyped_storage().data_ptr()


def _unflatten(x: Any, at: int, sizes: Any) -> Any:
    return x.unflatten(at, sizes)


def _spread(kept: Tensor, at: int, grid: Grid) -> Tensor:
    return kept.expand(*kept.shape[:at], grid.rows, grid.columns, *kept.shape[at + 2 :])


def plain(x: Tensor) -> Tensor:
    """What a model returned, as a plain tensor."""
    if not isinstance(x, Pairs):
        return x
    if not _is_opaque(x):
        return x.plain()
    with torch._C.DisableTorchFunctionSubclass():
        return x.clone()


def _plain(name: str, inputs: Any) -> Any:
    return tree_map(lambda x: x.plain(name) if isinstance(x, Pairs) else x, inputs)


def _recalled(func: Any, name: str, given: list[Pairs], args: Any, kwargs: Any) -> Any:
    """The result, from the memo if no operand depends on candidates and the same operation had the same operands."""
    grid = given[0].grid
    if grid.memo is None or name not in RULES or not all(x.fixed for x in given) or _in_functorch():
        return _applied(func, name, given, args, kwargs)
    mode = torch.is_grad_enabled(), torch.is_inference_mode_enabled(), _autocast(given[0].device.type)
    try:
        key = func, mode, _identity((args, kwargs))
        hash(key)
    except TypeError:
        return _applied(func, name, given, args, kwargs)
    found = grid.memo.get(key)
    if found is None or any(_version(x) != version for x, version in found[1]):
        # Saved here for all chunks, outside of the checkpoint that this chunk may run in.
        with saved_tensors_hooks(lambda x: x, lambda x: x):
            result = _applied(func, name, given, args, kwargs)
        values = tree_map(lambda x: (x.kept, x.at) if isinstance(x, Pairs) else x, result)
        tensors = [x for x in tree_flatten(values)[0] if isinstance(x, Tensor)]
        # The operands are held, so that no other tensor gets their identity.
        found = grid.memo[key] = result, [(x, _version(x)) for x in tensors], (args, kwargs)
    return tree_map(lambda x: _pairs(x.kept, x.at, grid) if isinstance(x, Pairs) else x, found[0])


def _version(x: Tensor) -> int:
    return -1 if x.is_inference() else x._version


def _in_functorch() -> bool:
    return torch._C._are_functorch_transforms_active()


def _identity(x: Any) -> Any:
    """What makes two operands the same: the memory seen and its version, or a number and its type."""
    if isinstance(x, Pairs):
        return _identity(x.kept), x.at
    if isinstance(x, Tensor):
        base = x if x._base is None else x._base
        return id(base), x.storage_offset(), x.shape, x.stride(), _version(x), x.dtype, x.requires_grad
    if isinstance(x, slice):
        return slice, _identity((x.start, x.stop, x.step))
    if isinstance(x, (tuple, list)):
        return type(x), *map(_identity, x)
    if isinstance(x, dict):
        return tuple((name, _identity(value)) for name, value in x.items())
    if x is None or x is Ellipsis or isinstance(x, (bool, int, float, str, torch.dtype, torch.device)):
        return type(x), x
    raise TypeError(type(x))


def _autocast(device: str) -> Any:
    try:
        return torch.is_autocast_enabled(device)
    except TypeError:  # before torch 2.4
        return torch.is_autocast_enabled(), torch.is_autocast_cpu_enabled()


def _applied(func: Any, name: str, given: list[Pairs], args: Any, kwargs: Any) -> Any:
    """The result by a rule, or else of plain tensors."""
    if name in RULES and kwargs.get("out") is None and not _in_functorch():
        try:
            return RULES[name](func, *args, **kwargs)
        except (NoRule, AttributeError, TypeError, ValueError, IndexError, RuntimeError, ZeroDivisionError):
            pass  # if the model is wrong, plain tensors show it
    if name == "batch_norm":
        given[0].grid.notice("whole")
    result = func(*_plain(name, args), **_plain(name, kwargs))
    _keeps_pairs(given[0], result)
    if _in_functorch():
        given[0].grid.notice("whole")
        return result
    return tree_map(lambda x: _as_pairs(given[0], x), result)


def _as_pairs(like: Pairs, x: Any) -> Any:
    """A plain result, still known to be of pairs."""
    inner = like.kept.shape[like.at + 2]
    if type(x) is not Tensor or x.dim() <= like.at or x.shape[like.at] != like.grid.pairs * inner:
        return x
    return _pairs(_unflatten(x, like.at, (like.grid.rows, like.grid.columns, inner)), like.at, like.grid)


def _keeps_pairs(like: Pairs, result: Any) -> None:
    """Notice an operation whose result has no dimension of pairs any more: it may have mixed them."""
    for x in tree_flatten(result)[0]:
        if isinstance(x, Tensor) and (x.dim() <= like.at or x.shape[like.at] % max(like.grid.pairs, 1)):
            like.grid.notice("whole")


def _in_place(func: Any, name: str, x: Pairs, *args: Any, **kwargs: Any) -> Pairs:
    """As out of place, then instead of what was kept, or into its memory if other tensors see that too."""
    source = _pairs(x.kept.clone(), x.at, x.grid) if x.shared else x
    other = "__" + name[3:] if name.startswith("__i") else name.rstrip("_")
    if other in RULES and kwargs.pop("inplace", None):
        new = func(source, *args, **kwargs)
    elif other in RULES and hasattr(Tensor, other):
        new = getattr(Tensor, other)(source, *args, **kwargs)
    else:
        plain = source.plain(name).clone()
        func(plain, *_plain(name, args), **_plain(name, kwargs))
        new = _as_pairs(x, plain)
    kept = (new if isinstance(new, Pairs) else _as_pairs(x, new)).kept.to(x.dtype)
    if not x.shared:
        return _put(x, kept)
    if kept.shape != x.kept.shape or _storage(x) in x.grid.borrowed or kept.is_inference():
        raise Rerun("plain")
    return _put(x, x.kept.copy_(kept))


# --------------------------------------------------------------------------------------------------------------- rules


def _aligned(right: int, grid: Grid, x: Any) -> Any:
    """An operand with the axes of pairs ``right`` dimensions before its end, as broadcasting would find them."""
    if isinstance(x, Pairs):
        if x.dim() - x.at != right:
            raise NoRule
        return x.kept
    if not isinstance(x, Tensor) or x.dim() < right:
        return x
    at = x.dim() - right
    if x.shape[at] != 1 and x.stride(at) == 0:  # expanded to all pairs
        x = x.narrow(at, 0, 1)
    elif x.shape[at] % grid.pairs == 0:
        return _unflatten(x, at, (grid.rows, grid.columns, -1))
    if x.shape[at] != 1:
        raise NoRule
    return x[(slice(None),) * at + (None, None)]


def _first(operands: Any) -> Pairs:
    return next(x for x in tree_flatten(operands)[0] if isinstance(x, Pairs))


def elementwise(func: Any, *args: Any, **kwargs: Any) -> Any:
    x = _first((args, kwargs))
    right, grid = x.dim() - x.at, x.grid
    kept, options = tree_map(lambda v: _aligned(right, grid, v), (args, kwargs))
    result = func(*kept, **options)
    return _grown(func, x, (args, kwargs), _wrapped(result, result.dim() - 2 - right, grid))


def _grown(func: Any, x: Pairs, operands: Any, result: Pairs) -> Pairs:
    """Notice that contexts became one per pair."""
    each = result.kept.numel() // math.prod(result.kept.shape[result.at : result.at + 2])
    sizes = [
        v.kept.numel() if isinstance(v, Pairs) else v.numel()
        for v in tree_flatten(operands)[0]
        if isinstance(v, Tensor)
    ]
    if result.kept.shape[result.at + 1] > 1 and max(sizes) < result.kept.numel():
        for v in tree_flatten(operands)[0]:
            if isinstance(v, Pairs) and _is_context(v) and each <= 2 * v.kept.numel() // v.kept.shape[v.at]:
                x.grid.materialised[func.__name__] += 1
                x.grid.notice("few")
    return result


def like(func: Any, x: Pairs, *args: Any, **kwargs: Any) -> Any:
    """Its own tensor argument gives a dtype or a device only."""
    if not isinstance(x, Pairs):
        return func(x, *tree_map(lambda v: v.kept if isinstance(v, Pairs) else v, args), **kwargs)
    args = tree_map(lambda v: v.kept if isinstance(v, Pairs) else v, args)
    return _wrapped(func(x.kept, *args, **kwargs), x.at, x.grid)


def new(func: Any, x: Pairs, *args: Any, **kwargs: Any) -> Any:
    return func(x.kept, *args, **kwargs)


def along(position: int, default: Any = None, operands: int = 1) -> Callable[..., Any]:
    """Along other dimensions than that of the pairs; ``position`` of the argument that names them."""

    def rule(func: Any, *given: Any, **named: Any) -> Any:
        args: list[Any]
        kwargs: dict[str, Any]
        x, args, kwargs = _first(given), list(given), dict(named)
        right, grid = x.dim() - x.at, x.grid
        word = "dims" if "dims" in kwargs else "dim"
        dim = kwargs.pop(word, args[position] if len(args) > position else default)
        if isinstance(dim, Tensor):  # the maximum of two tensors
            return elementwise(func, *args, **kwargs)
        if dim is None:
            return _over_all(func, x, kwargs)
        dims = [d % x.dim() for d in (dim if isinstance(dim, (tuple, list)) else [dim])]
        if isinstance(dim, bool) or x.at in dims or not dims:
            grid.notice("whole")
            raise NoRule
        args[:operands] = [_aligned(right, grid, v) for v in args[:operands]]
        moved = [d + 2 * (d > x.at) for d in dims]
        value = moved if isinstance(dim, (tuple, list)) else moved[0]
        if len(args) > position:
            args[position] = value
        else:
            kwargs[word] = value
        result = func(*args, **kwargs)
        one = tree_flatten(result)[0][0]
        gone = one.dim() < x.dim() + 2
        return _wrapped(result, x.at - gone * sum(d < x.at for d in dims), grid)

    return rule


def _over_all(func: Any, x: Pairs, kwargs: Any) -> Any:
    if func.__name__ not in ("all", "any"):
        x.grid.notice("whole")
    if func.__name__ not in ("all", "any", "mean", "amax", "amin", "max", "min"):
        raise NoRule
    return func(x.kept, **kwargs)


def linear(func: Any, x: Pairs, *weights: Any, **kwargs: Any) -> Any:
    """Over the last dimensions, with weights that are no pairs."""
    over = len(weights[0]) if isinstance(weights[0], (tuple, list)) else 1
    if any(isinstance(w, Pairs) for w in weights) or x.dim() - x.at <= over:
        raise NoRule
    return _wrapped(func(x.kept, *weights, **kwargs), x.at, x.grid)


def per_row(func: Any, x: Pairs, *args: Any, **kwargs: Any) -> Any:
    """Of a first dimension that is only a batch."""
    training = func.__name__ == "batch_norm" and (kwargs.get("training") or args[0] is None)
    if x.at or x.dim() < 3 or training or any(isinstance(v, Pairs) for v in tree_flatten((args, kwargs))[0]):
        raise NoRule
    result = func(x.kept.flatten(0, 2), *args, **kwargs)
    return _wrapped(result.unflatten(0, x.kept.shape[:3]), 0, x.grid)


def matmul(func: Any, x: Any, y: Any) -> Any:
    """Where one operand has no axis of the other's, ``einsum`` makes that axis a part of the matrices."""
    one = _first((x, y))
    right = one.dim() - one.at
    if not isinstance(y, Pairs) and y.dim() == 2 and right > 1:
        return _wrapped(func(x.kept, y), x.at, x.grid)
    x, y = (_aligned(right, one.grid, v) for v in (x, y))
    if right < 3:
        raise NoRule
    result = torch.einsum("...lk,...km->...lm", x, y)
    return _wrapped(result, result.dim() - 2 - right, one.grid)


def einsum(func: Any, equation: Any, *operands: Any) -> Any:
    operands = tuple(operands[0]) if isinstance(operands[0], (tuple, list)) else operands
    terms, _, result = equation.replace(" ", "").partition("->")
    terms, x = terms.split(","), _first(operands)
    letter = terms[next(i for i, v in enumerate(operands) if v is x)][x.at]
    if "." in equation or result.count(letter) != 1 or set("XYZ") & set(equation):
        x.grid.notice("whole")
        raise NoRule
    at = [term.find(letter) for term in terms]
    if any(isinstance(v, Pairs) and v.at != i for v, i in zip(operands, at, strict=True)):
        raise NoRule
    kept = [v if i < 0 else _aligned(v.dim() - i, x.grid, v) for v, i in zip(operands, at, strict=True)]
    return _wrapped(func(equation.replace(letter, "XYZ"), *kept), result.index(letter), x.grid)


def attention(
    func: Any, q: Any, k: Any, v: Any, attn_mask: Any = None, dropout_p: float = 0.0, is_causal: bool = False, **kw: Any
) -> Any:
    """Queries that differ where keys do not are one longer query."""
    x = _first((q, k, v, attn_mask))
    right, grid = x.dim() - x.at, x.grid
    q, k, v, mask = (_aligned(right, grid, t) for t in (q, k, v, attn_mask))
    if right < 3 or not q.dim() == k.dim() == v.dim() or kw.get("enable_gqa"):
        raise NoRule
    at, length = q.dim() - right - 2, q.shape[-2]
    together: Any = torch.broadcast_shapes
    batch = list(together(*(t.shape[:-2] for t in (q, k, v))))
    if dropout_p and batch[at : at + 2] != [grid.rows, grid.columns]:
        raise NoRule  # each pair draws its own
    fold = [i for i in (at, at + 1) if batch[i] > 1 and k.shape[i] == v.shape[i] == 1]
    inner = list(range(-2 - len(fold), -2))
    rest = [n for i, n in enumerate(batch) if i not in fold]
    if is_causal and fold:
        mask, is_causal = torch.ones(length, k.shape[-2], dtype=torch.bool, device=q.device).tril(), False

    def four(t: Tensor) -> Tensor:
        return t.flatten(0, -4) if t.dim() > 4 else t  # what the fast kernels take

    def lengthened(t: Tensor) -> Tensor:
        return four(t.expand(*batch, length, -1).movedim(fold, inner).flatten(-2 - len(fold), -2))

    def once(t: Tensor) -> Tensor:
        return four(t.squeeze(tuple(fold)).expand(*rest, -1, -1))

    if mask is not None:
        mask = mask[(None,) * (q.dim() - mask.dim())]
        mask = once(mask) if all(mask.shape[i] == 1 for i in [*fold, -2]) else lengthened(mask)
    result = func(lengthened(q), once(k), once(v), mask, dropout_p, is_causal, **kw)
    result = result.reshape(*rest, *(batch[i] for i in fold), length, -1).movedim(inner, fold)
    return _wrapped(result, at, grid)


def multi_head_attention(
    func: Any, query: Any, key: Any, value: Any, size: int, heads: int, weight: Any, bias: Any, bias_k: Any,
    bias_v: Any, add_zero_attn: bool, dropout_p: float, out_weight: Any, out_bias: Any, training: bool = True,
    key_padding_mask: Any = None, need_weights: bool = True, attn_mask: Any = None,
    use_separate_proj_weight: bool = False, q_proj_weight: Any = None, k_proj_weight: Any = None,
    v_proj_weight: Any = None, static_k: Any = None, static_v: Any = None, average_attn_weights: bool = True,
    is_causal: bool = False,
) -> Any:  # fmt: skip
    """Written out in operations that have rules; dimensions are [L, B * N, E], as the function's own."""
    if query.dim() != 3 or add_zero_attn or any(t is not None for t in (bias_k, bias_v, static_k, static_v)):
        raise NoRule
    split = (q_proj_weight, k_proj_weight, v_proj_weight) if use_separate_proj_weight else weight.chunk(3)
    q, k, v = (
        _unflatten(F.linear(t, w, b), -1, (heads, -1)).permute(1, 2, 0, 3)
        for t, w, b in zip((query, key, value), split, (None,) * 3 if bias is None else bias.chunk(3), strict=True)
    )
    mask = None if attn_mask is None else _additive(attn_mask, q)
    if mask is not None and mask.dim() == 3:
        mask = mask.unflatten(0, (-1, heads))
    if key_padding_mask is not None:
        padding = _additive(key_padding_mask, q)[:, None, None]
        mask = padding if mask is None else mask + padding
    dropout_p, weights = dropout_p if training else 0.0, None
    if need_weights:
        scores = q @ k.transpose(-2, -1) * q.shape[-1] ** -0.5
        weights = F.dropout((scores if mask is None else scores + mask).softmax(-1), dropout_p)
        result = weights @ v
        weights = weights.mean(1) if average_attn_weights else weights
    else:
        result = F.scaled_dot_product_attention(q, k, v, mask, dropout_p)
    return F.linear(result.permute(2, 0, 1, 3).flatten(-2), out_weight, out_bias), weights


def _additive(mask: Any, q: Any) -> Any:
    if mask.dtype != torch.bool:
        return mask
    return torch.zeros_like(mask, dtype=q.dtype).masked_fill(mask, -math.inf)


def view(func: Any, x: Pairs, *args: Any, **kwargs: Any) -> Any:
    """The pairs stay together with what follows them: at the place with as much before it."""
    shapes = tree_map(lambda v: torch.empty(v.shape, device="meta") if isinstance(v, Tensor) else v, (x, *args))
    new = func(*shapes, **kwargs).shape
    before = math.prod(x.shape[: x.at])
    places = (i for i, n in enumerate(new) if math.prod(new[:i]) == before and n % x.grid.pairs == 0)
    at = next(places, None)
    if at is None or any(isinstance(v, torch.dtype) for v in args):
        raise NoRule
    axes = (*x.kept.shape[x.at : x.at + 2], new[at] // x.grid.pairs)
    return _wrapped(x.kept.reshape(*new[:at], *axes, *new[at + 1 :]), at, x.grid)


def permute(func: Any, x: Pairs, *args: Any, **kwargs: Any) -> Any:
    """A tensor whose sizes are all different shows where the dimensions go."""
    order = [n - 2 for n in func(torch.empty(tuple(range(2, 2 + x.dim())), device="meta"), *args, **kwargs).shape]
    moved = [v for d in order for v in ((d, d + 1, d + 2) if d == x.at else (d + 2 * (d > x.at),))]
    return _wrapped(x.kept.permute(moved), order.index(x.at), x.grid)


def expand(func: Any, x: Pairs, *sizes: Any) -> Any:
    """Of other dimensions; also ``repeat``."""
    same = 1 if func.__name__ == "repeat" else -1
    new = list(sizes[0] if isinstance(sizes[0], (tuple, list)) else sizes)
    at = len(new) - x.dim() + x.at
    if new[at] not in (same, x.shape[x.at] * -same):
        raise NoRule
    return _wrapped(func(x.kept, *new[:at], same, same, same, *new[at + 1 :]), at, x.grid)


def repeat_interleave(func: Any, x: Pairs, repeats: int, dim: Any = None) -> Any:
    return x if repeats == 1 and dim is not None else along(2)(func, x, repeats, dim)


def _key(x: Pairs, key: Any) -> tuple[Any, int]:
    """An index of the kept axes, and where the pairs are in the result."""
    key = list(key) if isinstance(key, tuple) else [key]
    if any(k is Ellipsis for k in key):
        i = next(i for i, k in enumerate(key) if k is Ellipsis)
        key[i : i + 1] = [slice(None)] * (x.dim() - sum(k is not None for k in key) + 1)
    key += [slice(None)] * (x.dim() - sum(k is not None for k in key))
    place = next(i for i, _ in enumerate(key) if key[i] is not None and sum(k is not None for k in key[:i]) == x.at)
    if not isinstance(key[place], slice) or key[place].indices(x.shape[x.at]) != (0, x.shape[x.at], 1):
        x.grid.notice("whole")
        raise NoRule
    lists = [k for k in key if not (k is None or isinstance(k, slice) or type(k) is int)]
    if len(lists) > 1 or any(isinstance(k, (Pairs, bool)) or torch.as_tensor(k).dim() != 1 for k in lists):
        raise NoRule
    return (*key[:place], *[slice(None)] * 3, *key[place + 1 :]), sum(type(k) is not int for k in key[:place])


def get_item(func: Any, x: Pairs, key: Any) -> Any:
    key, at = _key(x, key)
    return _wrapped(x.kept[key], at, x.grid)


def cat(func: Any, tensors: Any, dim: int = 0, **kwargs: Any) -> Any:
    x = _first(tensors)
    right, grid, dim = x.dim() - x.at, x.grid, kwargs.get("axis", dim) % x.dim()
    if dim == x.at or any(t.dim() != x.dim() for t in tensors):
        grid.notice("whole")
        raise NoRule
    kept = [_aligned(right, grid, t) for t in tensors]
    axes = [max(t.shape[x.at + i] for t in kept) for i in range(3)]
    wide = [t.expand(*t.shape[: x.at], *axes, *t.shape[x.at + 3 :]) for t in kept]
    return _grown(func, x, tensors, _wrapped(func(wide, dim + 2 * (dim > x.at)), x.at, grid))


def stack(func: Any, tensors: Any, dim: int = 0) -> Any:
    return torch.cat([t.unsqueeze(dim) for t in tensors], dim)


def dropout(func: Any, x: Pairs, p: float = 0.5, training: bool = True, *args: Any, **kwargs: Any) -> Any:
    if training and p:
        raise NoRule  # a mask for each pair
    return x


TABLE: dict[Callable[..., Any], str] = {
    elementwise: """
        add sub subtract mul multiply div divide true_divide floor_divide remainder fmod pow float_power square sqrt
        rsqrt exp exp2 expm1 log log2 log10 log1p neg negative positive abs absolute sign reciprocal sin cos tan asin
        acos atan atan2 sinh cosh tanh sigmoid logit erf erfc relu relu6 silu gelu elu selu celu mish softplus softsign
        leaky_relu hardtanh hardswish hardsigmoid logsigmoid log_sigmoid tanhshrink threshold clamp clip clamp_min
        clamp_max maximum minimum lerp addcmul addcdiv where masked_fill nan_to_num isfinite isnan isinf eq ne gt lt ge
        le logical_and logical_or logical_not logical_xor bitwise_and bitwise_or bitwise_xor bitwise_not floor ceil
        round trunc frac hypot float double half bfloat16 bool int long contiguous clone rsub rdiv
        __add__ __radd__ __sub__ __rsub__ __mul__ __rmul__ __truediv__ __rtruediv__ __div__ __pow__ __rpow__ __neg__
        __abs__ __pos__ __invert__ __and__ __or__ __xor__ __eq__ __ne__ __gt__ __lt__ __ge__ __le__ __mod__""",
    like: "to type_as zeros_like ones_like full_like empty_like",
    new: "new_zeros new_ones new_full new_empty new_tensor",
    along(1): """
        sum mean prod std var amax amin all any max min argmax argmin softmax log_softmax softmin logsumexp cumsum
        cumprod flip median select narrow index_select nansum nanmean count_nonzero""",
    along(1, -1): "sort argsort glu",
    along(1, 0): "unbind",
    along(2, 0): "split chunk tensor_split",
    along(2, -1): "topk kthvalue diff",
    along(2): "norm linalg_norm linalg_vector_norm roll",
    along(2, 1): "normalize",
    along(2, 1, operands=2): "cosine_similarity",
    linear: "linear layer_norm rms_norm embedding one_hot",
    per_row: "conv1d conv2d group_norm batch_norm max_pool1d avg_pool1d adaptive_avg_pool1d interpolate",
    matmul: "matmul bmm __matmul__",
    einsum: "einsum",
    attention: "scaled_dot_product_attention",
    multi_head_attention: "multi_head_attention_forward",
    view: "view reshape flatten unflatten squeeze unsqueeze view_as reshape_as",
    permute: "permute transpose swapaxes swapdims movedim moveaxis t mT__get__",
    expand: "expand repeat",
    repeat_interleave: "repeat_interleave",
    get_item: "__getitem__",
    cat: "cat concat concatenate",
    stack: "stack",
    dropout: "dropout alpha_dropout feature_dropout",
}
RULES = {name: rule for rule, names in TABLE.items() for name in names.split()}


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Of the shape, the dtype or the object: answered by the stand-in itself.
NATIVE = _names("""
    size dim ndimension numel nelement __len__ is_floating_point is_complex is_signed element_size __hash__
    is_tensor get_device is_contiguous is_same_size requires_grad_ requires_grad__set__ is_inference stride backward""")
IN_PLACE = _names("__setitem__ __iadd__ __isub__ __imul__ __itruediv__ __ipow__ __iand__ __ior__ __ixor__")
# Of one tensor's place in the graph, which a stand-in does not have.
NEEDS_PLAIN = _names("grad register_hook retain_grad data__set__")

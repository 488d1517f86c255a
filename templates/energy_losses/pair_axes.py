"""Rules for operations that leave the axes of pairs where they are."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from .pairs import EachPair, Grid, NoRule, Pairs, detached, is_context, pairs_in, replaced, tensors, unflatten, wrapped


def aligned(right: int, grid: Grid, x: Any) -> Any:
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
        x = unflatten(x, at, (grid.rows, grid.columns, -1))
        if "whole" in grid.run.ways and not bool((x == x.narrow(at, 0, 1).narrow(at + 1, 0, 1)).all()):
            grid.run.notice("whole", "a tensor that says which pair is which")
        return x
    if x.shape[at] != 1:
        raise NoRule
    return x[(slice(None),) * at + (None, None)]


def first(operands: Any) -> Pairs:
    return pairs_in(operands)[0]


def broadcast(at: int, kept: list[Any]) -> list[Any]:
    """With equal axes of pairs, at ``at``."""
    axes = [max(t.shape[at + i] for t in kept) for i in range(3)]
    return [t.expand(*t.shape[:at], *axes, *t.shape[at + 3 :]) for t in kept]


def elementwise(func: Any, *args: Any, **kwargs: Any) -> Any:
    x = first((args, kwargs))
    right, grid = x.dim() - x.at, x.grid
    kept, options = replaced(lambda v: aligned(right, grid, v), (args, kwargs))
    result = func(*kept, **options)
    return grown(func, x, (args, kwargs), wrapped(result, result.dim() - 2 - right, grid))


def fill(func: Any, x: Any, mask: Any, value: Any) -> Any:
    """By ``where``, whose result lies in memory as ``x`` does, as a product of pairs left it."""
    value = value if isinstance(value, Tensor) else torch.full((), value, dtype=x.dtype, device=x.device)
    if mask.dtype != torch.bool or value.dim():
        raise NoRule  # `where` takes more
    return elementwise(torch.where, mask, value.to(x.dtype), x)


def grown(func: Any, x: Pairs, operands: Any, result: Pairs) -> Pairs:
    """Notice that contexts became one per pair."""
    each = result.kept.numel() // max(1, math.prod(result.kept.shape[result.at : result.at + 2]))
    given = tensors(operands)
    sizes = [v.kept.numel() if isinstance(v, Pairs) else v.numel() for v in given]
    if result.kept.shape[result.at + 1] > 1 and max(sizes) < result.kept.numel():
        for v in given:
            if isinstance(v, Pairs) and is_context(v) and each <= 2 * v.kept.numel() // v.kept.shape[v.at]:
                x.grid.run.materialised[func.__name__] += 1
                x.grid.run.notice("few", func.__name__)
    return result


def like(func: Any, x: Pairs, *args: Any, **kwargs: Any) -> Any:
    """Its own tensor argument gives a dtype or a device only."""
    args = replaced(lambda v: v.kept if isinstance(v, Pairs) else v, args)
    if not isinstance(x, Pairs):
        return func(x, *args, **kwargs)
    result = func(x.kept, *args, **kwargs)
    return wrapped(result, x.at, x.grid) if isinstance(result, Tensor) else result  # a type has a name


def new(func: Any, x: Pairs, *args: Any, **kwargs: Any) -> Any:
    return func(x.kept, *args, **kwargs)


def detach(func: Any, x: Pairs) -> Any:
    return detached(x)


def along(position: int = 1, default: Any = None, operands: int = 1) -> Callable[..., Any]:
    """Along other dimensions than that of the pairs; ``position`` of the argument that names them."""

    def rule(func: Any, *given: Any, **named: Any) -> Any:
        args: list[Any] = list(given)
        x, word = first(args), next((word for word in ("dims", "axis") if word in named), "dim")
        dim = named.pop(word, args[position] if len(args) > position else default)
        if isinstance(dim, Tensor):  # the maximum of two tensors
            return elementwise(func, *args, **named)
        if dim is None and len(args) <= position:
            return _over_all(func, x, named)
        dims = [d % x.dim() for d in (dim if isinstance(dim, (tuple, list)) else [dim])]
        if isinstance(dim, bool) or x.at in dims or not dims or any(v.dim() != x.dim() for v in args[:operands]):
            raise NoRule
        args[:operands] = [aligned(x.dim() - x.at, x.grid, v) for v in args[:operands]]
        moved = [d + 2 * (d > x.at) for d in dims]
        ordered = func.__name__ in ("softmax", "log_softmax")  # they would copy what a product left in another order
        if ordered:
            order = sorted(range(x.dim() + 2), key=args[0].stride, reverse=True)
            args[0], moved = args[0].permute(order), [order.index(moved[0])]
        value = moved if isinstance(dim, (tuple, list)) else moved[0]
        if len(args) > position:
            args[position] = value
        else:
            named[word] = value
        if pairs_in((args, named)):
            raise NoRule
        result = func(*args, **named)
        if ordered:
            result = result.permute([order.index(d) for d in range(x.dim() + 2)])
        gone = tensors(result)[0].dim() < x.dim() + 2
        return wrapped(result, x.at - gone * sum(d < x.at for d in dims), x.grid)

    return rule


def _over_all(func: Any, x: Pairs, named: Any) -> Any:
    """Copies change nothing; but other candidates, in other chunks, do."""
    if tensors(named):  # the maximum of two tensors
        return elementwise(func, x, **named)
    if named.get("keepdim") or func.__name__ not in ("all", "any", "mean", "amax", "amin", "max", "min"):
        raise NoRule
    if not (x.fixed or (x.checks and func.__name__ in ("all", "any"))):
        x.grid.run.notice("whole", func.__name__)
    return func(x.kept, **named)


def flip(func: Any, x: Pairs, *dims: Any, **named: Any) -> Any:
    dims = named.get("dims", dims[0] if isinstance(dims[0], (tuple, list)) else dims)
    return along()(func, x, list(dims))


def gather(func: Any, x: Any, dim: int, index: Any, **options: Any) -> Any:
    one = first((x, index))
    at, dim = one.at, dim % one.dim()
    if dim == at or x.dim() != index.dim() or x.shape[at] != index.shape[at]:
        raise NoRule
    kept, chosen = broadcast(at, [aligned(one.dim() - at, one.grid, v) for v in (x, index)])
    return wrapped(func(kept, dim + 2 * (dim > at), chosen, **options), at, one.grid)


def linear(func: Any, x: Pairs, *weights: Any, **kwargs: Any) -> Any:
    """Over the last dimensions, with weights that are no pairs."""
    shape = kwargs.get("normalized_shape", weights[0] if weights else None)
    over = len(shape) if isinstance(shape, (tuple, list)) else 1
    if pairs_in((weights, kwargs)) or x.dim() - x.at <= over:
        raise NoRule
    return wrapped(func(x.kept, *weights, **kwargs), x.at, x.grid)


def prelu(func: Any, x: Pairs, weight: Any) -> Any:
    if weight.numel() != 1:
        raise EachPair  # one for each channel, of which `kept` has another place
    return wrapped(func(x.kept, weight), x.at, x.grid)


def pad(func: Any, x: Pairs, sizes: Any, mode: str = "constant", *args: Any, **kwargs: Any) -> Any:
    if x.dim() - x.at <= len(sizes) // 2:
        raise NoRule
    if mode != "constant":
        raise EachPair
    return wrapped(func(x.kept, sizes, mode, *args, **kwargs), x.at, x.grid)


def indexed(
    func: Any, x: Pairs, table: Any = -1, padding_idx: Any = None, max_norm: Any = None, norm_type: float = 2.0,
    scale_grad_by_freq: bool = False, *args: Any, **kwargs: Any,
) -> Any:  # fmt: skip
    """A row of a table for each number; not where something counts the numbers of all pairs."""
    classes = kwargs.pop("weight", kwargs.pop("num_classes", table))
    if scale_grad_by_freq or (isinstance(classes, int) and classes < 0) or isinstance(classes, Pairs):
        raise NoRule
    more = (padding_idx, max_norm, norm_type, scale_grad_by_freq, *args) if isinstance(classes, Tensor) else ()
    return wrapped(func(x.kept, classes, *more, **kwargs), x.at, x.grid)


def per_row(dimensions: int) -> Callable[..., Any]:
    """Of a first dimension that is only a batch, with at least so many dimensions."""

    def rule(func: Any, x: Pairs, *args: Any, **kwargs: Any) -> Any:
        mixes = func.__name__ == "batch_norm" and kwargs.get("training", any(args[4:5]))
        if x.at or x.dim() < dimensions or mixes or pairs_in((args, kwargs)):
            raise NoRule
        result = func(x.kept.flatten(0, 2), *args, **kwargs)
        return wrapped(replaced(lambda v: unflatten(v, 0, x.kept.shape[:3]), result), 0, x.grid)

    return rule


def each_pair(dimensions: int) -> Callable[..., Any]:
    """Gets real copies, but pairs stay apart, if they are the first of so many dimensions."""

    def rule(func: Any, *args: Any, **kwargs: Any) -> Any:
        given = pairs_in((args, kwargs))
        raise EachPair if not dimensions or all(x.at == 0 and x.dim() >= dimensions for x in given) else NoRule

    return rule


def recurrent(func: Any, x: Any, hidden: Any, *args: Any, **kwargs: Any) -> Any:
    batch_first = args[-1] is True
    if not isinstance(x, Pairs) or x.dim() != 3 or x.at != 1 - batch_first:
        raise NoRule
    for state in tensors(hidden):
        aligned(2, x.grid, state)
    raise EachPair


def dropout(func: Any, x: Pairs, p: float = 0.5, training: bool = True, *args: Any, **kwargs: Any) -> Any:
    if training and p:
        raise EachPair  # a mask for each
    return x

"""Rules for operations that move the axes of pairs, or put tensors together and take them apart."""

import math
from typing import Any

import torch
from torch import Tensor

from .pair_axes import aligned, along, broadcast, first, grown
from .pairs import NoRule, Pairs, replaced, wrapped


def view(func: Any, x: Pairs, *args: Any, **kwargs: Any) -> Any:
    """The pairs stay together with what follows them: at the place with as much before it."""
    shapes = replaced(lambda v: torch.empty(v.shape, device="meta"), (x, *args))
    new = func(*shapes, **kwargs).shape
    before = math.prod(x.shape[: x.at])
    places = (i for i, n in enumerate(new) if math.prod(new[:i]) == before and n % x.grid.pairs == 0)
    at = next(places, None)
    if at is None or any(isinstance(v, torch.dtype) for v in (*args, *kwargs.values())):
        raise NoRule
    axes = (*x.kept.shape[x.at : x.at + 2], new[at] // x.grid.pairs)
    return wrapped(x.kept.reshape(*new[:at], *axes, *new[at + 1 :]), at, x.grid)


def permute(func: Any, x: Pairs, *args: Any, **kwargs: Any) -> Any:
    """A tensor whose sizes are all different shows where the dimensions go."""
    order = [n - 2 for n in func(torch.empty(tuple(range(2, 2 + x.dim())), device="meta"), *args, **kwargs).shape]
    moved = [v for d in order for v in ((d, d + 1, d + 2) if d == x.at else (d + 2 * (d > x.at),))]
    return wrapped(x.kept.permute(moved), order.index(x.at), x.grid)


def complex_view(func: Any, x: Pairs) -> Any:
    """Complex numbers as two real ones each, in a last dimension, and back."""
    if x.dim() - x.at < 2:
        raise NoRule
    return wrapped(func(x.kept), x.at, x.grid)


def expand(func: Any, x: Pairs, *sizes: Any) -> Any:
    """Of other dimensions; also ``repeat``."""
    same = 1 if func.__name__ == "repeat" else -1
    new = list(sizes[0] if isinstance(sizes[0], (tuple, list)) else sizes)
    at = len(new) - x.dim() + x.at
    if new[at] not in (same, x.shape[x.at] * -same):
        raise NoRule
    return wrapped(func(x.kept, *new[:at], same, same, same, *new[at + 1 :]), at, x.grid)


def repeat_interleave(func: Any, x: Pairs, repeats: int, dim: Any = None, **options: Any) -> Any:
    if type(repeats) is int and dim is not None and dim % x.dim() == x.at:
        return wrapped(x.kept.repeat_interleave(repeats, x.at + 2), x.at, x.grid)
    return along(2)(func, x, repeats, dim, **options)


def expand_as(func: Any, x: Pairs, other: Tensor) -> Any:
    return x.expand(other.shape)


def _key(x: Pairs, key: Any) -> tuple[Any, int]:
    """An index of the kept axes, and where the pairs are in the result."""
    key = list(key) if isinstance(key, tuple) else [key]
    if any(k is Ellipsis for k in key):
        i = next(i for i, k in enumerate(key) if k is Ellipsis)
        key[i : i + 1] = [slice(None)] * (x.dim() - sum(k is not None for k in key) + 1)
    key += [slice(None)] * (x.dim() - sum(k is not None for k in key))
    place = next(i for i, _ in enumerate(key) if key[i] is not None and sum(k is not None for k in key[:i]) == x.at)
    if not isinstance(key[place], slice) or key[place].indices(x.shape[x.at]) != (0, x.shape[x.at], 1):
        raise NoRule
    lists = [k for k in key if not (k is None or isinstance(k, slice) or type(k) is int)]
    if len(lists) > 1 or (lists and any(type(k) is int for k in key)):  # their dimension may move to the front
        raise NoRule
    if any(isinstance(k, (Pairs, bool)) or torch.as_tensor(k).dim() != 1 for k in lists):
        raise NoRule
    return (*key[:place], *[slice(None)] * 3, *key[place + 1 :]), sum(type(k) is not int for k in key[:place])


def get_item(func: Any, x: Pairs, key: Any) -> Any:
    key, at = _key(x, key)
    return wrapped(x.kept[key], at, x.grid)


def set_item(func: Any, x: Pairs, key: Any, value: Any) -> Any:
    """The tensor as it is after the assignment."""
    if isinstance(key, Tensor) and key.dtype == torch.bool and not isinstance(value, Tensor):
        return x.masked_fill(key[(..., *[None] * (x.dim() - key.dim()))], value)
    key, at = _key(x, key)
    part = x.kept[key]
    value = aligned(part.dim() - 2 - at, x.grid, value) if isinstance(value, Tensor) else value
    axes = [max(n, m) for n, m in zip(x.kept.shape[x.at :], _axes(value, part.dim() - at), strict=False)]
    kept = x.kept.expand(*x.kept.shape[: x.at], *axes, *x.kept.shape[x.at + 3 :]).clone()
    kept[key] = value
    return wrapped(kept, x.at, x.grid)


def _axes(value: Any, right: int) -> tuple[int, ...]:
    return tuple(value.shape[-right:][:3]) if isinstance(value, Tensor) and value.dim() >= right else (1, 1, 1)


def cat(func: Any, tensors: Any, dim: int = 0, **kwargs: Any) -> Any:
    x = first(tensors)
    right, grid, dim = x.dim() - x.at, x.grid, kwargs.get("axis", dim) % x.dim()
    if dim == x.at or any(t.dim() != x.dim() for t in tensors):
        raise NoRule
    wide = broadcast(x.at, [aligned(right, grid, t) for t in tensors])
    return grown(func, x, tensors, wrapped(func(wide, dim + 2 * (dim > x.at)), x.at, grid))


def stack(func: Any, tensors: Any, dim: int = 0) -> Any:
    return torch.cat([t.unsqueeze(dim) for t in tensors], dim)

"""Rules for products, where contexts and actions meet."""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .pair_axes import aligned, first
from .pairs import EachPair, Grid, NoRule, Pairs, unflatten, wrapped


class _Rows:
    """The axes of pairs, from ``at``, in which one operand differs and the others do not: more rows of its matrices."""

    def __init__(self, at: int, x: Tensor, *others: Tensor) -> None:
        together: Any = torch.broadcast_shapes
        self.batch = list(together(*(t.shape[:-2] for t in (x, *others))))
        self.fold = [i for i in (at, at + 1) if self.batch[i] > 1 and all(t.shape[i] == 1 for t in others)]
        self.rest = [n for i, n in enumerate(self.batch) if i not in self.fold]
        self.length, self.inner = x.shape[-2], list(range(-2 - len(self.fold), -2))

    def more(self, x: Tensor) -> Tensor:
        # A real copy for each context: fast kernels have been wrong on strides of zero (pytorch issue 191937).
        x = x.expand(*self.batch, self.length, -1)
        return _four(x.movedim(self.fold, self.inner).flatten(-2 - len(self.fold), -2))

    def once(self, x: Tensor) -> Tensor:
        return _four(x.squeeze(tuple(self.fold)).expand(*self.rest, -1, -1))

    def back(self, x: Tensor) -> Tensor:
        folded = (self.batch[i] for i in self.fold)
        return x.reshape(*self.rest, *folded, self.length, -1).movedim(self.inner, self.fold)


def _four(x: Tensor) -> Tensor:
    return x.flatten(0, -4) if x.dim() > 4 else x  # dimensions, which the fast kernels take


def matmul(func: Any, x: Any, *given: Any, **named: Any) -> Any:
    """Rows, or columns, that differ where the other operand does not are more of them."""
    (y,) = (*given, *named.values())
    x, y = (y, x) if func.__name__ == "__rmatmul__" else (x, y)
    one = first((x, y))
    right = one.dim() - one.at
    if not isinstance(y, Pairs) and y.dim() in (1, 2) and right > 1:
        return wrapped(torch.matmul(x.kept, y), x.at, x.grid)
    x, y = (aligned(right, one.grid, v) for v in (x, y))
    if right < 3 or x.dim() < 2 or y.dim() < 2:
        raise NoRule
    x, y = (v[(None,) * (max(x.dim(), y.dim()) - v.dim())] for v in (x, y))
    at = x.dim() - right - 2
    columns = list(reversed(x.shape[at : at + 2])) < list(reversed(y.shape[at : at + 2]))
    x, y = (y.mT, x.mT) if columns else (x, y)
    rows = _Rows(at, x, y)
    result = rows.back(torch.matmul(rows.more(x), rows.once(y)))
    return wrapped(result.mT if columns else result, at, one.grid)


def einsum(func: Any, equation: Any, *operands: Any) -> Any:
    operands = tuple(operands[0]) if isinstance(operands[0], (tuple, list)) else operands
    terms, _, result = equation.replace(" ", "").partition("->")
    terms, x = terms.split(","), first(operands)
    letter = terms[next(i for i, v in enumerate(operands) if v is x)][x.at]
    at = [term.find(letter) for term in terms]
    apart = any(isinstance(v, Pairs) and v.at != i for v, i in zip(operands, at, strict=True))
    if len(operands) == 1:
        raise EachPair  # a view, sometimes
    if "." in equation or result.count(letter) != 1 or set("XYZ") & set(equation) or apart:
        raise NoRule
    kept = [v if i < 0 else aligned(v.dim() - i, x.grid, v) for v, i in zip(operands, at, strict=True)]
    return wrapped(func(equation.replace(letter, "XYZ"), *kept), result.index(letter), x.grid)


def attention(
    func: Any, query: Any, key: Any, value: Any, attn_mask: Any = None, dropout_p: float = 0.0,
    is_causal: bool = False, **kw: Any,
) -> Any:  # fmt: skip
    """Queries that differ where keys do not are one longer query."""
    x = first((query, key, value, attn_mask))
    right, grid = x.dim() - x.at, x.grid
    q, k, v, mask = (aligned(right, grid, t) for t in (query, key, value, attn_mask))
    if right < 3 or not q.dim() == k.dim() == v.dim():
        raise NoRule
    if kw.get("enable_gqa"):
        raise EachPair
    at = q.dim() - right - 2
    rows = _Rows(at, q, k, v)
    if dropout_p and rows.batch[at : at + 2] != [grid.rows, grid.columns]:
        raise EachPair  # each draws its own mask
    if is_causal and rows.fold:
        mask, is_causal = torch.ones(q.shape[-2], k.shape[-2], dtype=torch.bool, device=q.device).tril(), False
    if mask is not None:
        mask = mask[(None,) * (q.dim() - mask.dim())]
        mask = rows.once(mask) if all(mask.shape[i] == 1 for i in [*rows.fold, -2]) else rows.more(mask)
    result = func(rows.more(q), rows.once(k), rows.once(v), mask, dropout_p, is_causal, **kw)
    return wrapped(rows.back(result), at, grid)


def multi_head_attention(
    func: Any, query: Any, key: Any, value: Any, size: int, heads: int, weight: Any, bias: Any, bias_k: Any,
    bias_v: Any, add_zero_attn: bool, dropout_p: float, out_weight: Any, out_bias: Any, training: bool = True,
    key_padding_mask: Any = None, need_weights: bool = True, attn_mask: Any = None,
    use_separate_proj_weight: bool = False, q_proj_weight: Any = None, k_proj_weight: Any = None,
    v_proj_weight: Any = None, static_k: Any = None, static_v: Any = None, average_attn_weights: bool = True,
    is_causal: bool = False,
) -> Any:  # fmt: skip
    """Written out in operations that have rules; dimensions are [L, B * N, E], as the function's own."""
    if any(t.dim() != 3 or (isinstance(t, Pairs) and t.at != 1) for t in (query, key, value)):
        raise NoRule
    if is_causal and attn_mask is None:
        raise NoRule  # an error, as torch says
    if is_causal and key_padding_mask is None and not need_weights:
        attn_mask = None  # torch believes the hint
    else:
        is_causal = False
    if add_zero_attn or any(t is not None for t in (bias_k, bias_v, static_k, static_v)):
        raise EachPair
    split = (q_proj_weight, k_proj_weight, v_proj_weight) if use_separate_proj_weight else weight.chunk(3)
    biases = (None,) * 3 if bias is None else bias.chunk(3)
    grid = first((query, key, value, key_padding_mask, attn_mask)).grid
    # As they lie in memory, where batch_first is set.
    given = [_equal_for_all(t.transpose(0, 1), grid) for t in (query, key, value)]
    if key is value and not use_separate_proj_weight:
        q = F.linear(given[0], split[0], biases[0])
        k, v = F.linear(given[1], weight[size:], None if bias is None else bias[size:]).chunk(2, dim=-1)
    else:
        q, k, v = (F.linear(t, w, b) for t, w, b in zip(given, split, biases, strict=True))
    q, k, v = (unflatten(t, -1, (heads, -1)).transpose(1, 2) for t in (q, k, v))
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
        result = F.scaled_dot_product_attention(q, k, v, mask, dropout_p, is_causal)
    return F.linear(result.transpose(1, 2).flatten(-2), out_weight, out_bias).transpose(0, 1), weights


def _equal_for_all(x: Any, grid: Grid) -> Any:
    """Queries that a model has learned, expanded to all pairs, are one."""
    if isinstance(x, Pairs) or x.stride(0) or len(x) != grid.pairs:
        return x
    return wrapped(x[:1, None, None], 0, grid)


def _additive(mask: Any, q: Any) -> Any:
    if mask.dtype != torch.bool:
        return mask
    return torch.zeros_like(mask, dtype=q.dtype).masked_fill(mask, -math.inf)

"""Rules for products, where contexts and actions meet."""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .pair_axes import aligned, first
from .pairs import EachPair, NoRule, Pairs, unflatten, wrapped


def matmul(func: Any, x: Any, y: Any) -> Any:
    """Where one operand has no axis of the other's, ``einsum`` makes that axis a part of the matrices."""
    x, y = (y, x) if func.__name__ == "__rmatmul__" else (x, y)
    one = first((x, y))
    right = one.dim() - one.at
    if not isinstance(y, Pairs) and y.dim() in (1, 2) and right > 1:
        return wrapped(torch.matmul(x.kept, y), x.at, x.grid)
    x, y = (aligned(right, one.grid, v) for v in (x, y))
    if right < 3:
        raise NoRule
    result = torch.einsum("...lk,...km->...lm", x, y)
    return wrapped(result, result.dim() - 2 - right, one.grid)


def einsum(func: Any, equation: Any, *operands: Any) -> Any:
    operands = tuple(operands[0]) if isinstance(operands[0], (tuple, list)) else operands
    terms, _, result = equation.replace(" ", "").partition("->")
    terms, x = terms.split(","), first(operands)
    letter = terms[next(i for i, v in enumerate(operands) if v is x)][x.at]
    at = [term.find(letter) for term in terms]
    apart = any(isinstance(v, Pairs) and v.at != i for v, i in zip(operands, at, strict=True))
    if "." in equation or result.count(letter) != 1 or set("XYZ") & set(equation) or apart:
        raise NoRule
    kept = [v if i < 0 else aligned(v.dim() - i, x.grid, v) for v, i in zip(operands, at, strict=True)]
    return wrapped(func(equation.replace(letter, "XYZ"), *kept), result.index(letter), x.grid)


def attention(
    func: Any, q: Any, k: Any, v: Any, attn_mask: Any = None, dropout_p: float = 0.0, is_causal: bool = False, **kw: Any
) -> Any:
    """Queries that differ where keys do not are one longer query."""
    x = first((q, k, v, attn_mask))
    right, grid = x.dim() - x.at, x.grid
    q, k, v, mask = (aligned(right, grid, t) for t in (q, k, v, attn_mask))
    if right < 3 or not q.dim() == k.dim() == v.dim():
        raise NoRule
    if kw.get("enable_gqa"):
        raise EachPair
    at, length = q.dim() - right - 2, q.shape[-2]
    together: Any = torch.broadcast_shapes
    batch = list(together(*(t.shape[:-2] for t in (q, k, v))))
    if dropout_p and batch[at : at + 2] != [grid.rows, grid.columns]:
        raise EachPair  # each draws its own mask
    fold = [i for i in (at, at + 1) if batch[i] > 1 and k.shape[i] == v.shape[i] == 1]
    inner = list(range(-2 - len(fold), -2))
    rest = [n for i, n in enumerate(batch) if i not in fold]
    if is_causal and fold:
        mask, is_causal = torch.ones(length, k.shape[-2], dtype=torch.bool, device=q.device).tril(), False

    def four(t: Tensor) -> Tensor:
        return t.flatten(0, -4) if t.dim() > 4 else t  # what the fast kernels take

    def lengthened(t: Tensor) -> Tensor:
        # A real copy for each context: fast kernels have been wrong on strides of zero (pytorch issue 191937).
        return four(t.expand(*batch, length, -1).movedim(fold, inner).flatten(-2 - len(fold), -2))

    def once(t: Tensor) -> Tensor:
        return four(t.squeeze(tuple(fold)).expand(*rest, -1, -1))

    if mask is not None:
        mask = mask[(None,) * (q.dim() - mask.dim())]
        mask = once(mask) if all(mask.shape[i] == 1 for i in [*fold, -2]) else lengthened(mask)
    result = func(lengthened(q), once(k), once(v), mask, dropout_p, is_causal, **kw)
    result = result.reshape(*rest, *(batch[i] for i in fold), length, -1).movedim(inner, fold)
    return wrapped(result, at, grid)


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
    if add_zero_attn or any(t is not None for t in (bias_k, bias_v, static_k, static_v)):
        raise EachPair
    split = (q_proj_weight, k_proj_weight, v_proj_weight) if use_separate_proj_weight else weight.chunk(3)
    q, k, v = (
        unflatten(F.linear(t, w, b), -1, (heads, -1)).permute(1, 2, 0, 3)
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

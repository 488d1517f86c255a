"""Every operation of the table of rules, applied to tensors of pairs [P, L, 8] with values between 0 and 1."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from energy_losses.pair_axes import elementwise
from energy_losses.pair_rules import RULES, TABLE
from torch import Tensor

Apply = Callable[[Any, Tensor, Tensor], Any]


def unit(x: Tensor) -> Tensor:
    return x.sigmoid() * 0.8 + 0.1


def one(y: Tensor) -> Tensor:
    """One position of it, [P, 1, 8], which broadcasts."""
    return y.mean(1, keepdim=True)


def square(x: Tensor) -> Tensor:
    return x[:, :4, :4]


def heads(x: Tensor) -> Tensor:
    return x.unflatten(-1, (2, 4)).transpose(1, 2)


def images(x: Tensor) -> Tensor:
    return x[:, None].expand(-1, 8, -1, -1)


def weights(*shape: int) -> Tensor:
    return torch.linspace(-1, 1, torch.Size(shape).numel(), dtype=torch.float64).view(shape).sin()


def attention(f: Any, x: Tensor, y: Tensor) -> Any:
    sizes = 8, 2, weights(24, 8), weights(24)
    options = {"training": True, "need_weights": False, "attn_mask": None}
    query, key = x.transpose(0, 1), y.transpose(0, 1)
    padding = y[:, :, 0] > y[:, :, 0].amax(1, keepdim=True) - 1e-9
    return f(query, key, key, *sizes, None, None, False, 0.0, weights(8, 8), weights(8), key_padding_mask=padding,
             **options)[0].transpose(0, 1)  # fmt: skip


def recurrent(f: Any, x: Tensor, y: Tensor) -> Any:
    gates = {"gru": 3, "lstm": 4}.get(f.__name__, 1)
    state = torch.zeros(1, len(x), 8, dtype=x.dtype)
    given = [weights(8 * gates, 8), weights(8 * gates, 8), weights(8 * gates), weights(8 * gates)]
    return f(x, (state, state) if gates == 4 else state, given, True, 1, 0.0, True, False, True)[0]


def split_key(x: Tensor) -> Tensor:
    x[:, 1:3] = x[:, :2] * 2
    x[:, 0, 0] = 3.0
    x[x < 0.2] = 0.2
    return x


CALLS: dict[str, Apply] = {
    "add sub subtract mul multiply div divide true_divide remainder fmod pow float_power rsub eq"
    " ne gt lt ge le": lambda f, x, y: f(x, one(y)) + f(one(x), one(y) * 2) + f(x, 0.5),
    "maximum minimum atan2 hypot logaddexp": lambda f, x, y: f(x, one(y)) + f(one(x), one(y) * 2),
    "floor_divide": lambda f, x, y: f(x.detach(), one(y).detach()) + f(x.detach(), 0.3),
    "__add__ __radd__ __sub__ __rsub__ __mul__ __rmul__ __truediv__ __rtruediv__ __div__ __rdiv__ __pow__ __rpow__"
    " __eq__ __ne__ __gt__ __lt__ __ge__ __le__ __mod__": lambda f, x, y: f(x, one(y)) + f(x, 0.5),
    "logical_and logical_or logical_xor bitwise_and bitwise_or bitwise_xor __and__ __or__ __xor__": (
        lambda f, x, y: f(x > 0.5, one(y) > 0.4)
    ),
    "logical_not bitwise_not __invert__": lambda f, x, y: f(x > 0.5),
    "cuda": lambda f, x, y: f(x).cpu() if torch.cuda.is_available() else x,
    "threshold": lambda f, x, y: f(x, 0.4, 0.1),
    "clamp clip": lambda f, x, y: f(x, 0.3, 0.6) + f(x, min=one(y)),
    "clamp_min clamp_max": lambda f, x, y: f(x, 0.4) + f(x, one(y)),
    "lerp": lambda f, x, y: f(x, one(y), 0.3) + f(x, one(y), one(x)),
    "addcmul addcdiv": lambda f, x, y: f(x, one(y), one(x), value=0.5),
    "where": lambda f, x, y: torch.where(one(y) > 0.4, x, one(y)) + f(x, x > 0.5, 2.0),
    "masked_fill": lambda f, x, y: f(x, one(y) > 0.4, 2.0) + f(x, x > 0.5, torch.tensor(3.0).double()),
    "type": lambda f, x, y: f(x.detach(), torch.float32 if f(x).endswith("DoubleTensor") else torch.float64),
    "float half bfloat16": lambda f, x, y: f(x.detach()),  # gradients would be as coarse
    "to type_as": lambda f, x, y: f(x, one(y)) + f(x, weights(1)),
    "full_like": lambda f, x, y: f(x, 0.3) * x,
    "empty_like": lambda f, x, y: f(x).fill_(0.3) * x,
    "new_zeros new_ones": lambda f, x, y: f(x, (1, x.shape[1], 8)) * x,
    "new_full": lambda f, x, y: f(x, (1, 8), 0.3) * x,
    "new_empty": lambda f, x, y: f(x, (1, 8)).fill_(0.3) * x,
    "new_tensor": lambda f, x, y: f(x, [0.3]) * x,
    "prod all any count_nonzero": lambda f, x, y: f(x, 1) + f(f(x, 1)[None], 2)[0][:, None],
    "sum mean amax amin nansum nanmean": lambda f, x, y: f(x, 1) + f(x, (1, 2))[:, None],
    "max min": lambda f, x, y: f(x, 1)[0] + f(x, dim=2, keepdim=True).values.mean(1) + f(x, one(y))[:, 0],
    "std var": lambda f, x, y: f(x, 1) + f(x, (1, 2), keepdim=True)[:, 0],
    "argmax argmin logsumexp": lambda f, x, y: f(x, 1) + f(x, dim=-1, keepdim=True)[:, 0],
    "softmax log_softmax softmin cumsum cumprod": lambda f, x, y: f(x, 1) + f(x, dim=-1),
    "median": lambda f, x, y: f(x, 1).values + f(x, dim=-2).values,
    "select": lambda f, x, y: f(x, 1, 0) + f(x, -1, 2).mean(1, keepdim=True),
    "narrow": lambda f, x, y: f(x, 1, 1, 2),
    "index_select": lambda f, x, y: f(x, 1, torch.tensor([2, 0])),
    "sort": lambda f, x, y: f(x)[0] + f(x, 1, True).values,
    "argsort": lambda f, x, y: f(x) + f(x, 1),
    "glu": lambda f, x, y: f(x),
    "unbind": lambda f, x, y: f(x, 1)[1],
    "split": lambda f, x, y: f(x, [3, 5], 2)[1],
    "chunk tensor_split": lambda f, x, y: f(x, 2, 1)[1],
    "topk": lambda f, x, y: f(x, 2)[0].sum(-1)[:, :1, None] + f(x, 2, 1).values,
    "kthvalue": lambda f, x, y: f(x, 2)[0][:, :1] + f(x, 2, 1).values,
    "diff": lambda f, x, y: f(x).mean(2, keepdim=True) + f(x, 1, 1).mean(1, keepdim=True),
    "norm linalg_norm linalg_vector_norm": lambda f, x, y: f(x, 2, 1) + f(x, 2, -1, True)[:, 0],
    "roll": lambda f, x, y: f(x, 1, 1) + f(x, (1, 2), (1, 2)),
    "normalize": lambda f, x, y: f(x) + f(x, dim=-1),
    "cosine_similarity": lambda f, x, y: f(x, one(y)) + f(one(x), one(y), dim=-1),
    "flip": lambda f, x, y: torch.Tensor.flip(x, 1, 2) + f(x, [1]) + f(x, dims=(2,)),
    "gather": lambda f, x, y: f(x, 1, (one(y) > 0.4).long()) + f(x, 2, (y[..., :1] > 0.4).long()[:, :4]),
    "pad": lambda f, x, y: f(x, (0, 0, 1, 0)) + f(x, (1, 1, 1, 0), "reflect")[..., 1:-1] + f(one(y), (0, 0), value=2),
    "linear": lambda f, x, y: f(x, weights(8, 8)) + f(x, weight=weights(8, 8), bias=weights(8)),
    "layer_norm": lambda f, x, y: f(x, (8,)) + f(x, [x.shape[1], 8]),
    "rms_norm": lambda f, x, y: f(x, (8,), weights(8)),
    "embedding": lambda f, x, y: (
        f((x[..., 0] > 0.5).long(), weights(2, 8)) + f((y[:, 0, 0] > 0.5).long(), weights(2, 8))[:, None]
    ),
    "one_hot": lambda f, x, y: f((x[..., 0] > 0.5).long(), 8),
    "group_norm": lambda f, x, y: f(x.mT, 2) + f(x[:, 0], 2)[..., None],
    "batch_norm": lambda f, x, y: f(x.mT, weights(8), weights(8) ** 2 + 1),
    "instance_norm": lambda f, x, y: f(x.mT),
    "conv1d": lambda f, x, y: f(x.mT, weights(8, 8, 3)).mT,
    "max_pool1d avg_pool1d adaptive_avg_pool1d adaptive_max_pool1d": lambda f, x, y: f(x.mT, 2),
    "interpolate": lambda f, x, y: f(x.mT, 6),
    "conv2d": lambda f, x, y: f(images(x), weights(8, 8, 2, 2)),
    "max_pool2d avg_pool2d adaptive_avg_pool2d": lambda f, x, y: f(images(x), 2),
    "view_as_complex view_as_real": lambda f, x, y: torch.view_as_real(
        torch.view_as_complex(x.reshape(*x.shape[:2], 4, 2)) * torch.polar(weights(4).abs(), weights(4))
    ).flatten(2),
    "mm": lambda f, x, y: f(x[:, 0], weights(8, 8))[:, None] + y,
    "prelu": lambda f, x, y: f(x - 0.5, weights(1)) + f(y.mT - 0.5, weights(8)).mT[:, :1],
    "conv_transpose1d": lambda f, x, y: f(x.mT, weights(8, 8, 3)).mT[:, :4],
    "matmul bmm __matmul__": lambda f, x, y: f(x, y.mT) @ y,
    "__rmatmul__": lambda f, x, y: f(y.mT, x) @ y,
    "einsum": lambda f, x, y: f("bqe,bke->bqk", x, y) @ y + f("bqe,ef->bqf", x, weights(8, 8)),
    "scaled_dot_product_attention": lambda f, x, y: (
        f(heads(x), heads(y), heads(y), (y[:, None, None, :, 0] > 0.3) | (torch.arange(y.shape[1]) == 0))
        + f(heads(x), heads(y), heads(y), is_causal=True)
    ),
    "multi_head_attention_forward": attention,
    "view reshape": lambda f, x, y: f(x.contiguous(), len(x), -1, 4) + f(x.contiguous(), (len(x), -1, 4)),
    "flatten": lambda f, x, y: f(f(x, 0, 1).unflatten(0, (len(x), -1)), 1),
    "unflatten": lambda f, x, y: f(x, -1, (2, 4)),
    "squeeze": lambda f, x, y: f(one(x), 1) + f(one(y)[:, None], (1, 2)),
    "unsqueeze": lambda f, x, y: f(x, 0)[0] + f(x, -1)[..., 0],
    "view_as reshape_as": lambda f, x, y: f(x.contiguous(), torch.empty(len(x), x.shape[1] * 8)),
    "permute": lambda f, x, y: f(x, (1, 2, 0)).permute(2, 1, 0) + torch.Tensor.permute(x, 0, 2, 1),
    "transpose swapaxes swapdims": lambda f, x, y: f(x, 1, 2) + f(f(x, 0, 1), 0, 1).mT,
    "movedim moveaxis": lambda f, x, y: f(f(x, 0, 1), (0, 1), (2, 0)),
    "t T__get__": lambda f, x, y: f(f(x[:, 0])),
    "mT__get__": lambda f, x, y: f(x),
    "expand": lambda f, x, y: f(one(x), -1, 3, -1) + f(one(y), (2, len(y), 3, 8))[0],
    "repeat": lambda f, x, y: f(x, 1, 2, 1),
    "expand_as": lambda f, x, y: f(one(x), torch.empty(len(x), 3, 8)),
    "repeat_interleave": lambda f, x, y: f(x, 2, 1) + f(x, 1, 0).mean(1, keepdim=True),
    "__getitem__": lambda f, x, y: x[:, 1:3] + x[..., [2, 1, 0], :][:, :2] + x[:, None, 0, None][:, 0] + x[:, -1:],
    "__setitem__": lambda f, x, y: split_key(x * 1),
    "cat concat concatenate": lambda f, x, y: (
        f([x, y, weights(1, 1, 8).expand(len(x), -1, -1)], 1) + f((one(x), one(y)), dim=-1)[..., 4:12]
    ),
    "stack": lambda f, x, y: f([one(x), one(y)], 1),
    "detach data__get__": lambda f, x, y: f(x) * x,
    "dropout alpha_dropout feature_dropout feature_alpha_dropout": lambda f, x, y: f(x, 0.0, True) + f(x, 0.5, False),
    "dropout1d": lambda f, x, y: f(x, 0.5, False),
    "dropout2d": lambda f, x, y: f(images(x), 0.5, False),
    "dropout3d": lambda f, x, y: f(images(x)[..., None], 0.5, False),
    "rand_like randn_like bernoulli": lambda f, x, y: f(x) * 0 + x,
    "randint_like": lambda f, x, y: f(x, 3) * 0 + x,
    "rrelu": lambda f, x, y: f(x - 0.5, 0.2, 0.2, True),
    "poisson": lambda f, x, y: f(x) * 0 + x,
    "bilinear": lambda f, x, y: f(one(x), one(y), weights(8, 8, 8)),
    "gru lstm rnn_tanh rnn_relu": recurrent,
}  # fmt: skip
APPLY: dict[str, Apply] = {name: apply for names, apply in CALLS.items() for name in names.split()}
for _name in TABLE[elementwise].split():
    APPLY.setdefault(_name, lambda f, x, y: f(x))
for _name in ("zeros_like", "ones_like"):
    APPLY[_name] = lambda f, x, y: f(x) * x + f(x, dtype=torch.float32)

# A value that is close to a step may fall on either side of it.
STEPS = {"argmax", "argmin", "argsort", "long", "int", "half", "bfloat16", "float", "bool", "eq", "ne", "__eq__"}
STEPS |= {"__ne__", "floor_divide", "remainder", "fmod", "__mod__", "floor", "ceil", "round", "trunc", "frac", "sign"}


def function(name: str) -> Any:
    """What has that name in torch, or None in a version that does not have it."""
    if name.endswith("__get__"):
        return getattr(Tensor, name.removesuffix("__get__")).__get__
    places = (Tensor, F, torch, torch.linalg, torch._C._nn, torch._VF)
    return next(
        (getattr(place, name) for place in places if hasattr(place, name)), getattr(torch.linalg, name[7:], None)
    )


def names() -> list[str]:
    return [name for name in RULES if function(name) is not None]


def applied(name: str, x: Tensor, y: Tensor) -> Tensor:
    """The operation's result as [P, L, 8], bounded."""
    result = APPLY[name](function(name), unit(x), unit(y))
    flat = result.reshape(len(x), -1).to(x.dtype)
    flat = torch.cat([flat] * (-(-16 // flat.shape[1])), 1)[:, :32]
    flat = flat[:, : flat.shape[1] // 8 * 8].unflatten(1, (-1, 8))
    return (flat * weights(1, flat.shape[1], 8)).tanh()

"""The rule of each operation, by its name in torch.

A rule says what becomes of the axes of pairs; it is called as the operation is, and raises ``NoRule`` where it does not
apply. What is not in the table gets real copies.
"""

from collections.abc import Callable
from typing import Any

from .pair_axes import (
    along,
    detach,
    dropout,
    each_pair,
    elementwise,
    fill,
    flip,
    gather,
    indexed,
    like,
    linear,
    new,
    pad,
    per_row,
    prelu,
    recurrent,
)
from .pair_products import attention, einsum, matmul, multi_head_attention
from .pair_views import (
    cat,
    complex_view,
    expand,
    expand_as,
    get_item,
    permute,
    repeat_interleave,
    set_item,
    stack,
    view,
)

TABLE: dict[Callable[..., Any], str] = {
    elementwise: """
        add sub subtract mul multiply div divide true_divide floor_divide remainder fmod pow float_power square sqrt
        rsqrt exp exp2 expm1 log log2 log10 log1p neg negative positive abs absolute sign reciprocal sin cos tan asin
        acos atan atan2 sinh cosh tanh sigmoid logit erf erfc relu relu6 silu gelu elu selu celu mish softplus softsign
        leaky_relu hardtanh hardswish hardsigmoid logsigmoid log_sigmoid tanhshrink threshold clamp clip clamp_min
        clamp_max maximum minimum lerp addcmul addcdiv where nan_to_num isfinite isnan isinf eq ne gt lt ge
        le logical_and logical_or logical_not logical_xor bitwise_and bitwise_or bitwise_xor bitwise_not floor ceil
        round trunc frac hypot logaddexp hardshrink softshrink float double half bfloat16 bool int long contiguous
        clone rsub cpu cuda
        __add__ __radd__ __sub__ __rsub__ __mul__ __rmul__ __truediv__ __rtruediv__ __div__ __rdiv__ __pow__ __rpow__
        __neg__ __abs__ __pos__ __invert__ __and__ __or__ __xor__ __eq__ __ne__ __gt__ __lt__ __ge__ __le__ __mod__""",
    like: "to type type_as zeros_like ones_like full_like empty_like",
    new: "new_zeros new_ones new_full new_empty new_tensor",
    fill: "masked_fill",
    along(): """
        sum mean prod std var amax amin all any max min argmax argmin softmax log_softmax softmin logsumexp cumsum
        cumprod median select narrow index_select nansum nanmean count_nonzero""",
    along(1, -1): "sort argsort glu",
    along(1, 0): "unbind",
    along(2, 0): "split chunk tensor_split",
    along(2, -1): "topk kthvalue diff",
    along(2): "norm linalg_norm linalg_vector_norm roll",
    along(2, 1): "normalize",
    along(2, 1, 2): "cosine_similarity",
    flip: "flip",
    gather: "gather",
    pad: "pad",
    prelu: "prelu",
    linear: "linear layer_norm rms_norm",
    indexed: "embedding one_hot",
    per_row(2): "group_norm batch_norm instance_norm",
    per_row(3): "conv1d conv_transpose1d max_pool1d avg_pool1d adaptive_avg_pool1d adaptive_max_pool1d interpolate",
    per_row(4): "conv2d max_pool2d avg_pool2d adaptive_avg_pool2d",
    matmul: "matmul bmm mm __matmul__ __rmatmul__",
    einsum: "einsum",
    attention: "scaled_dot_product_attention",
    multi_head_attention: "multi_head_attention_forward",
    view: "view reshape flatten unflatten squeeze unsqueeze view_as reshape_as",
    permute: "permute transpose swapaxes swapdims movedim moveaxis t T__get__ mT__get__",
    complex_view: "view_as_complex view_as_real",
    expand: "expand repeat",
    expand_as: "expand_as",
    repeat_interleave: "repeat_interleave",
    get_item: "__getitem__",
    set_item: "__setitem__",
    cat: "cat concat concatenate",
    stack: "stack",
    detach: "detach data__get__",
    dropout: "dropout alpha_dropout feature_dropout feature_alpha_dropout dropout1d dropout2d dropout3d",
    each_pair(0): "rand_like randn_like randint_like bernoulli rrelu poisson",
    each_pair(2): "bilinear",
    recurrent: "gru lstm rnn_tanh rnn_relu",
}

RULES = {name: rule for rule, names in TABLE.items() for name in names.split()}

"""Further kinds of energy model, each the ``attend`` of a ``CrossEnergy`` with some more layers to choose from."""

from collections.abc import Callable
from typing import Any

import energy_zoo as zoo
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

KINDS: list[Any] = []
STAND_IN: list[Any] = []  # those of which nothing is materialised


def kind(stands_in: bool) -> Callable[[Any], Any]:
    def make(attend: Any) -> Any:
        class Kind(zoo.CrossEnergy):
            def __init__(self, **options: Any) -> None:
                super().__init__(**options)
                for name in "qkve":
                    setattr(self, name, nn.Linear(8, 8))
                self.gate, self.two = nn.Linear(16, 8), nn.Linear(8, 16)
                self.token = nn.Parameter(torch.zeros(1, 2, 8))
                self.decoder = nn.TransformerDecoderLayer(8, 2, 16, dropout=0.0, batch_first=True)
                self.stack = nn.TransformerDecoder(self.decoder, 2)
                self.gru, self.bilinear = nn.GRU(8, 8, batch_first=True), nn.Bilinear(8, 8, 8)
                self.conv, self.norm = nn.Conv1d(8, 8, 3, padding=1), nn.GroupNorm(2, 8)

            def attend(self, steps: Tensor, context: Tensor, mask: Tensor | None) -> Tensor:
                return attend(self, steps, context, mask)  # type: ignore[no-any-return]

            def cross_attend(self, steps: Tensor, context: Tensor, mask: Tensor | None) -> Tensor:
                return zoo.CrossEnergy.attend(self, steps, context, mask)

        Kind.__name__ = Kind.__qualname__ = attend.__name__
        KINDS.append(Kind)
        if stands_in:
            STAND_IN.append(Kind)
        globals()[attend.__name__] = Kind  # where a worker process finds it
        return Kind

    return make


def pooled(context: Tensor, mask: Tensor | None) -> Tensor:
    kept = torch.ones_like(context[..., :1]) if mask is None else (~mask)[..., None].to(context)
    return (context * kept).sum(1) / kept.sum(1)


def heads(x: Tensor) -> Tensor:
    return x.view(x.shape[0], x.shape[1], 2, -1).transpose(1, 2)


def softmax_attention(model: Any, t: Tensor, c: Tensor, m: Tensor | None) -> Tensor:
    q, k, v = heads(model.q(t)), heads(model.k(c)), heads(model.v(c))
    scores = q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5
    if m is not None:
        scores = scores.masked_fill(m[:, None, None, :], float("-inf"))
    return (scores.softmax(-1) @ v).transpose(1, 2).flatten(2)


@kind(True)
def own_attention(model: Any, t: Tensor, c: Tensor, m: Tensor | None) -> Tensor:
    q, k, v = heads(model.q(t)), heads(model.k(c)), heads(model.v(c))
    allowed = None if m is None else ~m[:, None, None, :]
    return F.scaled_dot_product_attention(q, k, v, attn_mask=allowed).transpose(1, 2).reshape(t.shape)


@kind(True)
def softmax_by_hand(model: Any, t: Tensor, c: Tensor, m: Tensor | None) -> Tensor:
    return softmax_attention(model, t, c, m)


@kind(True)
def heads_in_the_batch(model: Any, t: Tensor, c: Tensor, m: Tensor | None) -> Tensor:
    pairs, steps, length = len(t), t.shape[1], c.shape[1]
    q = model.q(t).transpose(0, 1).contiguous().view(steps, pairs * 2, 4).transpose(0, 1)
    k = model.k(c).transpose(0, 1).contiguous().view(length, pairs * 2, 4).transpose(0, 1)
    scores = torch.bmm(q, k.transpose(1, 2)).view(pairs, 2, steps, length)
    if m is not None:
        scores = scores.masked_fill(m.unsqueeze(1).unsqueeze(2), float("-inf"))
    weights = F.softmax(scores.view(pairs * 2, steps, length), dim=-1)
    return torch.bmm(weights, k).transpose(0, 1).contiguous().view(steps, pairs, 8).transpose(0, 1)


@kind(True)
def einsum_attention(model: Any, t: Tensor, c: Tensor, m: Tensor | None) -> Tensor:
    scores = torch.einsum("bhqe,bhke->bhqk", heads(model.q(t)), heads(model.k(c)))
    if m is not None:
        scores = scores + torch.zeros_like(m, dtype=scores.dtype).masked_fill_(m, -1e9)[:, None, None]
    return torch.einsum("bhqk,bhke->bqhe", scores.softmax(-1), heads(model.v(c))).flatten(-2)


@kind(True)
def film(model: Any, t: Tensor, c: Tensor, m: Tensor | None) -> Tensor:
    scale, shift = model.two(pooled(c, m)).chunk(2, -1)
    return t * (1 + scale[:, None]) + shift.unsqueeze(1)


@kind(True)
def decoder(model: Any, t: Tensor, c: Tensor, m: Tensor | None) -> Tensor:
    return model.decoder(t, c, memory_key_padding_mask=m)  # type: ignore[no-any-return]


@kind(True)
def causal_decoder(model: Any, t: Tensor, c: Tensor, m: Tensor | None) -> Tensor:
    causal = nn.Transformer.generate_square_subsequent_mask(t.shape[1], dtype=t.dtype)
    return model.stack(t, c, tgt_mask=causal, memory_key_padding_mask=m, tgt_is_causal=True)  # type: ignore[no-any-return]


@kind(True)
def cross_and_self(model: Any, t: Tensor, c: Tensor, m: Tensor | None) -> Tensor:
    for _ in range(2):
        t = t + model.cross(t, t, t, need_weights=False)[0]
        t = t + model.cross(t, c, c, key_padding_mask=m)[0]
    return t


@kind(True)
def learned_token(model: Any, t: Tensor, c: Tensor, m: Tensor | None) -> Tensor:
    assert len(t) == len(c)
    queries = torch.cat([model.token.expand(len(t), -1, -1), t], 1)
    return model.cross_attend(queries, c, m)[:, 2:]  # type: ignore[no-any-return]


@kind(True)
def token_pooling(model: Any, t: Tensor, c: Tensor, m: Tensor | None) -> Tensor:
    return t + model.cross_attend(model.token.expand(c.size(0), -1, -1), c, m).mean(1, keepdim=True)  # type: ignore[no-any-return]


@kind(True)
def gated_fusion(model: Any, t: Tensor, c: Tensor, m: Tensor | None) -> Tensor:
    context = pooled(c, m)[:, None].expand(-1, t.shape[1], -1)
    gate = torch.sigmoid(model.gate(torch.cat([t, context], -1)))
    return gate * t + (1 - gate) * context


@kind(True)
def cosine(model: Any, t: Tensor, c: Tensor, m: Tensor | None) -> Tensor:
    x, y = F.normalize(pooled(c, m), dim=-1), F.normalize(t.mean(1), dim=-1)
    return t * (F.cosine_similarity(x, y, dim=-1) + (x * y).sum(-1))[:, None, None]


@kind(True)
def relative_bias(model: Any, t: Tensor, c: Tensor, m: Tensor | None) -> Tensor:
    bias = torch.linspace(0, 1, t.shape[1] * c.shape[1]).to(t).view(1, t.shape[1], -1).expand(2 * len(t), -1, -1)
    m = None if m is None else torch.zeros_like(m, dtype=bias.dtype).masked_fill(m, float("-inf"))
    return model.cross(t, c, c, key_padding_mask=m, attn_mask=bias)[0]  # type: ignore[no-any-return]


@kind(True)
def experts_by_context(model: Any, t: Tensor, c: Tensor, m: Tensor | None) -> Tensor:
    first = model.e(pooled(c, m)).sum(-1) > 0
    return torch.where(first[:, None, None], model.q(t), model.k(t)) + model.cross_attend(t, c, m)


@kind(True)
def training_only_branch(model: Any, t: Tensor, c: Tensor, m: Tensor | None) -> Tensor:
    z = model.cross_attend(t, c, m)
    return z + 0.3 * pooled(c, m)[:, None] if model.training else z


@kind(True)
def convolutions(model: Any, t: Tensor, c: Tensor, m: Tensor | None) -> Tensor:
    t, c = model.conv(t.transpose(1, 2)).transpose(1, 2), model.norm(model.conv(c.mT)).mT
    return model.cross_attend(t, c, m)  # type: ignore[no-any-return]


@kind(True)
def own_repeats(model: Any, t: Tensor, c: Tensor, m: Tensor | None) -> Tensor:
    assert c.shape[0] * 2 // 2 == len(t)
    assert c.data.shape == c.shape
    assert torch.isfinite(c).all()
    return model.cross_attend(t, c.repeat(1, 2, 1), None if m is None else m.repeat(1, 2))  # type: ignore[no-any-return]


@kind(True)
def extremes(model: Any, t: Tensor, c: Tensor, m: Tensor | None) -> Tensor:
    top = c.norm(dim=-1).topk(1, dim=1).values[..., None]
    return t + top + c.max(dim=1).values[:, None] + c.sort(dim=1).values[:, :1] + c.cumsum(1)[:, -1:]


@kind(True)
def in_place(model: Any, t: Tensor, c: Tensor, m: Tensor | None) -> Tensor:
    c = F.relu(model.k(c), inplace=True) * 1
    c += model.token[:, :1]
    c.mul_(0.5)
    c[:, 0] = c[:, 0] + 1
    t = (t * 1).view(t.shape)
    t *= 2
    z = model.cross_attend(t, c * 1, m)
    z += pooled(c, m)[:, None]
    return z + t  # type: ignore[no-any-return]


@kind(False)
def in_place_through_a_view(model: Any, t: Tensor, c: Tensor, m: Tensor | None) -> Tensor:
    c = model.k(c)
    sequence_first = c.transpose(0, 1)
    sequence_first.mul_(2.0)
    sequence_first[0] = 1.0
    return model.cross_attend(t, c, m)  # type: ignore[no-any-return]


@kind(False)
def film_of_contexts(model: Any, t: Tensor, c: Tensor, m: Tensor | None) -> Tensor:
    scale, shift = model.two(t.mean(1)).chunk(2, -1)
    return model.cross_attend(t, (c * (1 + scale[:, None]) + shift.unsqueeze(1)).tanh(), m)  # type: ignore[no-any-return]


@kind(False)
def experts_by_pair(model: Any, t: Tensor, c: Tensor, m: Tensor | None) -> Tensor:
    z = model.cross_attend(t, c, m)
    routes = F.softmax(model.gate(torch.cat([z.mean(1), pooled(c, m)], -1))[:, :2], -1)
    chosen, out = routes.argmax(-1), torch.zeros_like(z)
    for i, expert in enumerate((model.q, model.k)):
        rows = (chosen == i).nonzero().squeeze(-1)
        out[rows] = expert(z[rows]) * routes[rows, i][:, None, None]
    return out


@kind(False)
def recurrent(model: Any, t: Tensor, c: Tensor, m: Tensor | None) -> Tensor:
    return model.cross_attend(model.gru(t)[0], model.gru(c)[0], m)  # type: ignore[no-any-return]


@kind(False)
def bilinear(model: Any, t: Tensor, c: Tensor, m: Tensor | None) -> Tensor:
    return model.bilinear(t, pooled(c, m)[:, None].expand_as(t).contiguous())  # type: ignore[no-any-return]


@kind(False)
def values_read_back(model: Any, t: Tensor, c: Tensor, m: Tensor | None) -> Tensor:
    size = torch.from_numpy(c.detach().cpu().numpy()).mean((1, 2)).to(t)
    z = model.cross_attend(t, c, m) * (1 + 0 * float(c.sum().item()))
    return z + size[:, None, None] + torch.tensor(t.detach().tolist()).to(t)  # type: ignore[no-any-return]


@kind(False)
def last_position(model: Any, t: Tensor, c: Tensor, m: Tensor | None) -> Tensor:
    last = torch.full((len(c),), c.shape[1] - 1, device=c.device) if m is None else (~m).sum(1) - 1
    return t + c[torch.arange(len(c), device=c.device), last][:, None]


@kind(False)
def pair_by_pair(model: Any, t: Tensor, c: Tensor, m: Tensor | None) -> Tensor:
    return torch.stack([x + y.mean(0) for x, y in zip(t, c, strict=True)])


@kind(False)
def mapped(model: Any, t: Tensor, c: Tensor, m: Tensor | None) -> Tensor:
    inner = torch.func.vmap(lambda w: (c * w).mean(1))(model.token[0]).mean(0)[:, None]
    slope = torch.func.grad(lambda x: (x.tanh() * c.mean(1, keepdim=True)).sum())(t)
    return torch.func.vmap(lambda x, y: x * y.mean(0))(t, c) + inner + slope


@kind(False)
def gradient_inside(model: Any, t: Tensor, c: Tensor, m: Tensor | None) -> Tensor:
    with torch.enable_grad():
        a = t.detach().requires_grad_(True)
        (slope,) = torch.autograd.grad(softmax_attention(model, a, c, m).square().sum(), a, create_graph=True)
    return t + slope


@kind(False)
def gradient_of_the_actions_given(model: Any, t: Tensor, c: Tensor, m: Tensor | None) -> Tensor:
    energy = softmax_attention(model, t, c, m).square().sum()
    return t + torch.autograd.grad(energy, t, create_graph=True)[0]


@kind(False)
def hooks_on_tensors(model: Any, t: Tensor, c: Tensor, m: Tensor | None) -> Tensor:
    c = c * 1.0
    c.register_hook(lambda gradient: gradient * 2)
    return model.cross_attend(t, c, m)  # type: ignore[no-any-return]


class Reversed(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x * 2

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return -gradients[0]


@kind(False)
def own_functions(model: Any, t: Tensor, c: Tensor, m: Tensor | None) -> Tensor:
    return model.cross_attend(Reversed.apply(t), Reversed.apply(c), m)  # type: ignore[no-any-return,no-untyped-call]


@kind(False)
def reentrant_checkpoint(model: Any, t: Tensor, c: Tensor, m: Tensor | None) -> Tensor:
    return checkpoint(lambda a, b: model.cross_attend(a, b, m), t, c, use_reentrant=True)  # type: ignore[no-any-return]


@kind(True)
def checkpoint_of_contexts(model: Any, t: Tensor, c: Tensor, m: Tensor | None) -> Tensor:
    c = checkpoint(lambda x: model.k(x).tanh(), c, use_reentrant=False)
    return model.cross_attend(t, c, m)  # type: ignore[no-any-return]


@kind(True)
def centred(model: Any, t: Tensor, c: Tensor, m: Tensor | None) -> Tensor:
    z = model.cross_attend(t, c, m)
    return z - z.mean(0, keepdim=True)  # type: ignore[no-any-return]


@kind(False)
def centred_contexts(model: Any, t: Tensor, c: Tensor, m: Tensor | None) -> Tensor:
    return model.cross_attend(t, c - c.mean(dim=0), m)  # type: ignore[no-any-return]


@kind(False)
def scaled_by_the_batch(model: Any, t: Tensor, c: Tensor, m: Tensor | None) -> Tensor:
    return model.cross_attend(t, c, m) / t.std()  # type: ignore[no-any-return]


@kind(True)
def softmax_over_the_batch(model: Any, t: Tensor, c: Tensor, m: Tensor | None) -> Tensor:
    z = model.cross_attend(t, c, m)
    return z * z.mean((1, 2)).softmax(0)[:, None, None]  # type: ignore[no-any-return]

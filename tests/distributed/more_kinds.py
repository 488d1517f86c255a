"""Kinds of energy model that are written in the field: other attentions, fusions, positions and readings."""

from typing import Any

import energy_zoo as zoo
import torch
import torch.nn.functional as F
from energy_kinds import KINDS, STAND_IN, heads, kind, pooled, softmax_attention
from torch import Tensor, nn

_before, _standing = len(KINDS), len(STAND_IN)


def bias(mask: Tensor | None, like: Tensor) -> Tensor | float:
    return 0.0 if mask is None else torch.zeros_like(mask, dtype=like.dtype).masked_fill(mask, -1e9)


@kind(True)
def positions_of_each_pair(model: Any, t: Tensor, c: Tensor, m: Tensor | None) -> Tensor:
    places = torch.arange(c.shape[1]).expand(len(c), -1)
    return model.cross_attend(t, c + F.embedding(places % 2, model.token[0]), m)  # type: ignore[no-any-return]


@kind(True)
def rotated(model: Any, t: Tensor, c: Tensor, m: Tensor | None) -> Tensor:
    def turned(x: Tensor) -> Tensor:
        angle = torch.arange(x.shape[1], dtype=x.dtype)[:, None] * torch.linspace(0.1, 1, 4, dtype=x.dtype)
        first, second = x.chunk(2, dim=-1)
        return torch.cat([first * angle.cos() - second * angle.sin(), first * angle.sin() + second * angle.cos()], -1)

    return softmax_attention(model, turned(t), turned(c), m)


@kind(True)
def one_key_for_all_heads(model: Any, t: Tensor, c: Tensor, m: Tensor | None) -> Tensor:
    q, k, v = heads(model.q(t)), model.k(c)[..., None, :4].transpose(1, 2), model.v(c)[:, None, :, 4:]
    hidden = None if m is None else ~m[:, None, None]
    return (
        F.scaled_dot_product_attention(q, k.expand(-1, 2, -1, -1), v.expand(-1, 2, -1, -1), hidden).mT.flatten(1, 2).mT
    )


@kind(True)
def latents(model: Any, t: Tensor, c: Tensor, m: Tensor | None) -> Tensor:
    z = model.cross_attend(model.token.repeat(len(c), 1, 1), c, m)
    return model.cross_attend(t, z + model.cross(z, z, z)[0], None)  # type: ignore[no-any-return]


@kind(True)
def weights_from_the_context(model: Any, t: Tensor, c: Tensor, m: Tensor | None) -> Tensor:
    made = model.two(pooled(c, m)).view(-1, 8, 2)
    return t + torch.bmm(torch.bmm(t, made), made.transpose(1, 2))


@kind(True)
def experts_weighed_by_pair(model: Any, t: Tensor, c: Tensor, m: Tensor | None) -> Tensor:
    routes = F.softmax(model.gate(torch.cat([t.mean(1), pooled(c, m)], -1))[:, :3], dim=-1)
    outputs = torch.stack([expert(t).relu() for expert in (model.q, model.k, model.v)], dim=1)
    return torch.einsum("bn,bnle->ble", routes, outputs)


@kind(True)
def gated_feed_forward(model: Any, t: Tensor, c: Tensor, m: Tensor | None) -> Tensor:
    z = model.cross_attend(t, c, m)
    z = z * torch.rsqrt(z.pow(2).mean(-1, keepdim=True) + 1e-6)
    return t + F.glu(model.two(z)) + F.gelu(model.q(z)) * model.k(z)  # type: ignore[no-any-return]


@kind(True)
def channels_weighed(model: Any, t: Tensor, c: Tensor, m: Tensor | None) -> Tensor:
    z = model.conv(F.pad(t, (0, 0, 1, 1)).transpose(1, 2))[..., 1:-1].transpose(1, 2)
    return z * model.e(z.mean(1) * pooled(c, m)).sigmoid().unsqueeze(1)  # type: ignore[no-any-return]


@kind(True)
def whole_transformer(model: Any, t: Tensor, c: Tensor, m: Tensor | None) -> Tensor:
    layer = model.decoder
    c = layer.norm1(c + layer.self_attn(c, c, c, key_padding_mask=m)[0])
    return layer(t, c, memory_key_padding_mask=m)  # type: ignore[no-any-return]


@kind(True)
def late_interaction(model: Any, t: Tensor, c: Tensor, m: Tensor | None) -> Tensor:
    x, y = F.normalize(model.q(t), dim=-1), F.normalize(model.k(c), p=2.0, dim=2)
    similar = torch.einsum("bqe,bke->bqk", x, y)
    if m is not None:
        similar = similar.masked_fill(m[:, None], -2.0)
    return t * similar.max(dim=-1).values[..., None]


@kind(True)
def last_by_gather(model: Any, t: Tensor, c: Tensor, m: Tensor | None) -> Tensor:
    last = torch.full((len(c),), c.shape[1]) if m is None else (~m).long().sum(1)
    return t + c.gather(1, (last - 1)[:, None, None].expand(-1, 1, c.shape[-1]))


@kind(True)
def covariance_of_channels(model: Any, t: Tensor, c: Tensor, m: Tensor | None) -> Tensor:
    x, y = F.normalize(model.q(t), dim=1), F.normalize(c * 2, dim=1).clamp(-1, 1)
    return (t @ (x.mT @ x + y.mT @ y).softmax(-1)).flatten(1).unflatten(1, (-1, 8))


@kind(True)
def distances_in_time(model: Any, t: Tensor, c: Tensor, m: Tensor | None) -> Tensor:
    apart = (torch.arange(t.shape[1])[:, None] - torch.arange(c.shape[1])).abs().to(t)
    scores = torch.matmul(model.q(t), model.k(c).transpose(-2, -1)) - apart * 0.3
    return (scores + (0.0 if m is None else bias(m, t)[:, None])).softmax(-1) @ model.v(c)  # type: ignore[index,no-any-return]


@kind(True)
def normalised_weights(model: Any, t: Tensor, c: Tensor, m: Tensor | None) -> Tensor:
    weight = model.k.weight / model.k.weight.norm(dim=1, keepdim=True)
    parts = nn.Sequential(nn.Identity(), nn.Softplus(), nn.Flatten(1), nn.Unflatten(1, (-1, 8)))
    return model.cross_attend(t + parts(t), F.linear(c, weight), m)  # type: ignore[no-any-return]


@kind(False)
def greatest_of_all(model: Any, t: Tensor, c: Tensor, m: Tensor | None) -> Tensor:
    x = t / t.abs().amax(keepdim=True)
    return model.cross_attend(t + x.softmax(1).reshape(t.shape), c, m)  # type: ignore[no-any-return]


@kind(True)
def the_greater_of_two(model: Any, t: Tensor, c: Tensor, m: Tensor | None) -> Tensor:
    return model.cross_attend(torch.max(t, other=-t), c, m)  # type: ignore[no-any-return]


@kind(True)
def hinted_as_causal(model: Any, t: Tensor, c: Tensor, m: Tensor | None) -> Tensor:
    """torch believes the hint where it needs no weights, whatever else the mask says."""
    places = torch.arange(t.shape[1])
    bias = nn.Transformer.generate_square_subsequent_mask(len(places), dtype=t.dtype) - 0.5 * places
    alone = model.cross(t, t, t, attn_mask=bias, is_causal=True, need_weights=False)[0]
    seen = model.cross(t, t, t, attn_mask=bias, is_causal=True)[0]
    return model.cross_attend(alone + seen, c, m)  # type: ignore[no-any-return]


@kind(True)
def queries_of_its_own(model: Any, t: Tensor, c: Tensor, m: Tensor | None) -> Tensor:
    learned = model.token.expand(len(c), -1, -1)
    latents = model.cross(learned, c, c, key_padding_mask=m)[0]
    return model.cross_attend(t, latents, None)  # type: ignore[no-any-return]


@kind(True)
def called_by_keywords(model: Any, t: Tensor, c: Tensor, m: Tensor | None) -> Tensor:
    q, k, v = heads(model.q(t)), heads(model.k(c)), heads(model.v(c))
    z = F.scaled_dot_product_attention(query=q, key=k, value=v, attn_mask=None if m is None else ~m[:, None, None])
    z = z.transpose(1, 2).flatten(2)
    return z + torch.matmul(input=torch.bmm(t, mat2=c.mT), other=c)


@kind(True)
def a_mask_for_each_head(model: Any, t: Tensor, c: Tensor, m: Tensor | None) -> Tensor:
    hidden = torch.zeros(len(c), c.shape[1], dtype=torch.bool) if m is None else m
    mask = hidden[:, None].expand(-1, c.shape[1], -1).repeat_interleave(2, dim=0)
    return model.cross_attend(t, c + model.cross(c, c, c, attn_mask=mask)[0], m)  # type: ignore[no-any-return]


class RescaledEnergy(zoo.CrossEnergy):
    """Has a call of its own, around that of a module."""

    def __call__(self, *args: Any) -> Any:
        return super().__call__(*args) * 2 - 1


class CountedEnergy(zoo.CrossEnergy):
    """Cools down with the number of its calls, which it counts in Python."""

    calls = 0

    def attend(self, steps: Tensor, context: Tensor, mask: Tensor | None) -> Tensor:
        self.calls = self.calls + 1
        return super().attend(steps / self.calls, context + steps.mean((0, 1)), mask)


class CollectingEnergy(zoo.CrossEnergy):
    """Reads in the end what hooks have collected on the way."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.seen: list[Tensor] = []
        self.action.register_forward_hook(lambda module, inputs, output: self.seen.append(output))

    def attend(self, steps: Tensor, context: Tensor, mask: Tensor | None) -> Tensor:
        z = steps - steps.mean(0)
        z = z + torch.stack(self.seen).sum(0)
        self.seen.clear()
        return super().attend(z, context, mask)


MORE, MORE_STAND_IN = [*KINDS[_before:], RescaledEnergy, CollectingEnergy], STAND_IN[_standing:]
del KINDS[_before:], STAND_IN[_standing:]

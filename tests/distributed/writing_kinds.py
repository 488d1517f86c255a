"""Kinds of energy model that write into their tensors, through views, at twins of them, or into plain ones."""

from typing import Any

import torch
import torch.nn.functional as F
from energy_kinds import KINDS, kind, pooled
from torch import Tensor, nn

_before = len(KINDS)


@kind(False)
def a_view_of_contexts(model: Any, t: Tensor, c: Tensor, m: Tensor | None) -> Tensor:
    first = c[:, 0]
    first += 1
    first.mul_(2)
    return model.cross_attend(t, c, m)  # type: ignore[no-any-return]


@kind(False)
def a_view_without_a_rule(model: Any, t: Tensor, c: Tensor, m: Tensor | None) -> Tensor:
    c = model.k(c)
    c.diagonal(0, 1, 2).mul_(3)
    t = t * 1
    t.unfold(1, 2, 2)[:, 0] = 0.5
    return model.cross_attend(t, c, m)  # type: ignore[no-any-return]


@kind(False)
def a_view_while_its_base_changes(model: Any, t: Tensor, c: Tensor, m: Tensor | None) -> Tensor:
    t = t * 1
    seen, other = t.diagonal(0, 1, 2), t.mT
    t += 1
    return t + seen.sum(-1)[:, None, None] + other.mean(1)[..., None]


@kind(False)
def data_of_a_tensor(model: Any, t: Tensor, c: Tensor, m: Tensor | None) -> Tensor:
    c, t = model.k(c), t * 1
    c.data.mul_(0.5)
    t.detach().add_(1)
    return model.cross_attend(t, c, m)  # type: ignore[no-any-return]


@kind(False)
def without_gradients(model: Any, t: Tensor, c: Tensor, m: Tensor | None) -> Tensor:
    t = t * 1
    with torch.no_grad():
        t.clamp_(-0.2, 0.2)
    return model.cross_attend(t, c, m)  # type: ignore[no-any-return]


@kind(True)
def equal_calls(model: Any, t: Tensor, c: Tensor, m: Tensor | None) -> Tensor:
    once, again = model.k(c), model.k(c)
    once += 1
    zero = torch.zeros_like(c)
    zero += once
    return model.cross_attend(t, again + zero + torch.zeros_like(c), m)  # type: ignore[no-any-return]


@kind(True)
def repeated_once(model: Any, t: Tensor, c: Tensor, m: Tensor | None) -> Tensor:
    same = t.repeat_interleave(1, dim=0)
    same += 1
    return model.cross_attend(t + same, c, m)  # type: ignore[no-any-return]


@kind(True)
def activations_in_place(model: Any, t: Tensor, c: Tensor, m: Tensor | None) -> Tensor:
    encoder = nn.Sequential(model.k, nn.ReLU(inplace=True), model.v, nn.LeakyReLU(0.1, True))
    c = encoder(c) * 2
    c = c.view(c.shape)
    c.masked_fill_(c > 1, 1.0)
    c[c < 0.1] = 0.1
    c[:, :, 1:3] = t[:, :1, 1:3]
    return model.cross_attend(F.relu_(t + 0), c, m)  # type: ignore[no-any-return]


@kind(False)
def out_of_a_plain_tensor(model: Any, t: Tensor, c: Tensor, m: Tensor | None) -> Tensor:
    total = torch.zeros(len(t), 8, dtype=t.dtype)
    total += t.mean(1)
    total.add_(pooled(c, m))
    with torch.no_grad():
        other = torch.empty_like(total)
        torch.add(pooled(c, m), t.mean(1), out=other)
    return t + (total + other)[:, None]


@kind(False)
def filled(model: Any, t: Tensor, c: Tensor, m: Tensor | None) -> Tensor:
    x = t.new_empty(t.shape).copy_(t)
    zero = torch.empty_like(c).fill_(2).zero_()
    x.transpose_(1, 2).transpose_(1, 2)
    return model.cross_attend(x, c + zero, m)  # type: ignore[no-any-return]


@kind(False)
def scattered(model: Any, t: Tensor, c: Tensor, m: Tensor | None) -> Tensor:
    x = torch.zeros_like(t)
    x.scatter_add_(1, torch.zeros_like(t, dtype=torch.long), t)
    x.index_add_(1, torch.tensor([1, 2]), t[:, :2])
    return x + pooled(c, m)[:, None]


@kind(False)
def an_alias_by_a_sign(model: Any, t: Tensor, c: Tensor, m: Tensor | None) -> Tensor:
    t, c = t * 1, c * 1
    same, turned = +t, torch.einsum("bld->bdl", c)
    same += 1
    turned.mul_(2)
    return model.cross_attend(t, c, m)  # type: ignore[no-any-return]


LIBRARY = torch.library.Library("energy_losses_tests", "DEF")
LIBRARY.define("doubled(Tensor(a!) x) -> ()")


@torch.library.impl(LIBRARY, "doubled", "CPU")
def doubled(x: Tensor) -> None:
    x.mul_(2)


@kind(False)
def written_by_an_operation_of_its_own(model: Any, t: Tensor, c: Tensor, m: Tensor | None) -> Tensor:
    twice, more = c.detach() * 1, t.detach() * 1
    torch.ops.energy_losses_tests.doubled(twice)
    torch.ops.energy_losses_tests.doubled.default(more)
    torch.ops.aten.add_.Tensor(more, 1.0)
    return model.cross_attend(t + more, c + twice, m)  # type: ignore[no-any-return]


@kind(False)
def shifted(model: Any, t: Tensor, c: Tensor, m: Tensor | None) -> Tensor:
    number = (c[..., :1] > 0).long()
    same = number
    number <<= 1
    return model.cross_attend(t, c + same, m)  # type: ignore[no-any-return]


@kind(False)
def candidates_written_into_contexts(model: Any, t: Tensor, c: Tensor, m: Tensor | None) -> Tensor:
    c = c * 1
    c[:, 0] = t.mean(1)
    return model.cross_attend(t, c / c.abs().mean(), m)  # type: ignore[no-any-return]


@kind(False)
def repeated_without_gradients(model: Any, t: Tensor, c: Tensor, m: Tensor | None) -> Tensor:
    with torch.no_grad():
        scale = t.repeat_interleave(1, 0)
    return model.cross_attend(t * scale, c, m)  # type: ignore[no-any-return]


WRITING = KINDS[_before:]
del KINDS[_before:]

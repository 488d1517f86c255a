"""Kinds of energy model whose pairs depend on each other, so that splitting them over passes changes the energies."""

from typing import Any

import energy_zoo as zoo
import numpy as np
import torch
import torch.nn.functional as F
from energy_kinds import KINDS, kind, pooled
from torch import Tensor

_before = len(KINDS)


def scaled(x: Tensor, by: Tensor) -> Tensor:
    return x * (1 + by.reshape(-1, 1, 1))


@kind(False)
def einsum_of_pairs(model: Any, t: Tensor, c: Tensor, m: Tensor | None) -> Tensor:
    x = t.mean(1)
    return scaled(t, torch.einsum("ie,je->ij", pooled(c, m), x).mean(1))


@kind(False)
def product_of_pairs(model: Any, t: Tensor, c: Tensor, m: Tensor | None) -> Tensor:
    x = t.mean(1)
    return scaled(t, (x @ x.T).softmax(-1).amax(-1))


@kind(False)
def distances(model: Any, t: Tensor, c: Tensor, m: Tensor | None) -> Tensor:
    return scaled(t, torch.cdist(pooled(c, m), t.mean(1)).mean(1))


@kind(False)
def gathered(model: Any, t: Tensor, c: Tensor, m: Tensor | None) -> Tensor:
    return t + t.gather(0, torch.arange(len(t)).flip(0)[:, None, None].expand_as(t))


@kind(False)
def spectrum(model: Any, t: Tensor, c: Tensor, m: Tensor | None) -> Tensor:
    return t + torch.fft.fft(t, dim=0).abs()


@kind(False)
def pairs_as_sequence(model: Any, t: Tensor, c: Tensor, m: Tensor | None) -> Tensor:
    model.cross.batch_first = False
    return t + model.cross(t, t, t)[0]  # type: ignore[no-any-return]


@kind(False)
def pairs_as_queries(model: Any, t: Tensor, c: Tensor, m: Tensor | None) -> Tensor:
    x = t.mean(1)
    return t + F.scaled_dot_product_attention(x, x, x)[:, None]


@kind(False)
def recurrent_over_pairs(model: Any, t: Tensor, c: Tensor, m: Tensor | None) -> Tensor:
    model.gru.batch_first = False
    return t + model.gru(t)[0]  # type: ignore[no-any-return]


@kind(False)
def norm_over_pairs(model: Any, t: Tensor, c: Tensor, m: Tensor | None) -> Tensor:
    return F.layer_norm(t, t.shape) + F.layer_norm(t.mT, t.mT.shape[:]).mT


@kind(False)
def moments(model: Any, t: Tensor, c: Tensor, m: Tensor | None) -> Tensor:
    variance, mean = torch.var_mean(t + c.mean(1, keepdim=True), 0)
    return (t - mean) / (variance + 1).sqrt()


@kind(False)
def read_by_numpy(model: Any, t: Tensor, c: Tensor, m: Tensor | None) -> Tensor:
    values = np.asarray(t.detach().tolist()).std(0)
    return t / (1 + torch.as_tensor(values).to(t))


@kind(False)
def read_as_a_number(model: Any, t: Tensor, c: Tensor, m: Tensor | None) -> Tensor:
    return t * (1 + abs(t).amax().item()) if (t > 0.7).any() else t


@kind(False)
def along_the_batch_by_axis(model: Any, t: Tensor, c: Tensor, m: Tensor | None) -> Tensor:
    return t - t.mean(axis=0) + c.mean(axis=1)[:, None]  # type: ignore[call-overload,no-any-return]


@kind(False)
def order_of_pairs(model: Any, t: Tensor, c: Tensor, m: Tensor | None) -> Tensor:
    return t * torch.linspace(0, 1, len(t), dtype=t.dtype)[:, None, None]


@kind(False)
def rolled(model: Any, t: Tensor, c: Tensor, m: Tensor | None) -> Tensor:
    return t + t.roll(1, 0) + t.flip(0)


@kind(False)
def convolved_over_pairs(model: Any, t: Tensor, c: Tensor, m: Tensor | None) -> Tensor:
    return t + model.conv(t.mean(1).T[None])[0].T[:, None]  # type: ignore[no-any-return]


@kind(False)
def normalised_positionally(model: Any, t: Tensor, c: Tensor, m: Tensor | None) -> Tensor:
    return torch.batch_norm(t.mT, None, None, None, None, True, 0.1, 1e-5, False).mT


@kind(False)
def counted_in_the_gradient(model: Any, t: Tensor, c: Tensor, m: Tensor | None) -> Tensor:
    index = (pooled(c, m)[:, :1] > 0).long()
    return t + F.embedding(index, model.token[0], scale_grad_by_freq=True)


class SpectralEnergy(zoo.CrossEnergy):
    """A weight that is computed from a buffer, which each call in training changes."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        torch.nn.utils.parametrizations.spectral_norm(self.action[0])


MIXING = KINDS[_before:]
del KINDS[_before:]

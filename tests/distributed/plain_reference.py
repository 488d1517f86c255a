"""The losses as one process would write them: pair by pair, no batching, nothing shared with the code under test."""

import os
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

DEVICE = torch.device(os.environ.get("ENERGY_TEST_DEVICE", "cpu"))  # where batches and models of all tests lie


@dataclass(frozen=True)
class Batch:
    h: Tensor  # [B, S, D]
    a: Tensor  # [B, H, Da]
    mask: Tensor | None  # [B, S]

    def rows(self, start: int, stop: int, length: int | None = None) -> "Batch":
        """Some rows, cut to ``length`` positions."""
        mask = None if self.mask is None else self.mask[start:stop, :length]
        return replace(self, h=self.h[start:stop, :length], a=self.a[start:stop], mask=mask)


def make_batch(rows: int, *, seed: int = 0, s: int = 5, d: int = 6, steps: int = 4, da: int = 3) -> Batch:
    """Right-padded contexts of unequal lengths with noise at the padding, float64."""
    generator = torch.Generator().manual_seed(seed)
    h = torch.randn(rows, s, d, generator=generator, dtype=torch.float64)
    a = torch.rand(rows, steps, da, generator=generator, dtype=torch.float64) * 2 - 1
    lengths = torch.randint(1, s + 1, (rows,), generator=generator)
    return Batch(h.to(DEVICE), a.to(DEVICE), (torch.arange(s)[None] >= lengths[:, None]).to(DEVICE))


def share(batch: Batch, rows: list[int], rank: int) -> Batch:
    """A rank's rows, its contexts cut to the rank's own longest."""
    start = sum(rows[:rank])
    own = batch.rows(start, start + rows[rank])
    if own.mask is None or rows[rank] == 0:
        return own
    return own.rows(0, rows[rank], int((~own.mask).sum(dim=1).max()))


def energies(model: nn.Module, batch: Batch, candidates: Any) -> Tensor:
    """[B, N], every pair listed; ``candidates`` [N, H, Da], or a list of [H, Da] for each row."""
    per_row = candidates if isinstance(candidates, list) else [list(candidates)] * len(batch.h)
    pairs = [(i, action) for i, actions in enumerate(per_row) for action in actions]
    mask = None if batch.mask is None else torch.stack([batch.mask[i] for i, _ in pairs])
    output = model(torch.stack([batch.h[i] for i, _ in pairs]), torch.stack([a for _, a in pairs]), mask)
    return (output[0] if isinstance(output, tuple) else output).reshape(len(per_row), -1)


def infonce(
    table: Tensor, positives: list[int], tau: float, kept: Tensor | None = None, weights: list[float] | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Mean loss, mean positive energy, mean negative energy, row by row; ``weights`` is what each column counts."""
    each = torch.ones_like(table[0]) if weights is None else torch.tensor(weights).to(table)
    losses, own, others = [], [], []
    for i, j in enumerate(positives):
        negatives = [k for k in range(table.shape[1]) if k != j and (kept is None or bool(kept[i, k]))]
        parts = each[[j, *negatives]] * torch.exp(-table[i, [j, *negatives]] / tau)
        losses.append(-torch.log(parts[0] / parts.sum()))
        own.append(table[i, j])
        others.append(table[i, negatives])
    negative = torch.cat(others)
    return torch.stack(losses).mean(), torch.stack(own).mean(), negative.mean() if len(negative) else negative.sum()


def global_loss(model: nn.Module, batch: Batch, tau: float = 0.5) -> tuple[Tensor, Tensor, Tensor]:
    return infonce(energies(model, batch, batch.a), list(range(len(batch.a))), tau)


def hybrid_loss(
    model: nn.Module, batch: Batch, made: Tensor, tau: float = 0.3, weight: float = 0.25
) -> tuple[Tensor, Tensor, Tensor]:
    """The rows' actions and made negatives [B, M, H, Da], listed for each row."""
    listed = [[*batch.a, *own] for own in made]
    weights = [1.0] * len(batch.a) + [weight] * made.shape[1]
    return infonce(energies(model, batch, listed), list(range(len(batch.a))), tau, weights=weights)


def gradients(model: nn.Module) -> list[Tensor | None]:
    return [None if p.grad is None else p.grad.clone() for p in model.parameters()]


def reference_gradients(model: nn.Module, loss: Tensor) -> list[Tensor | None]:
    model.zero_grad()
    loss.backward(retain_graph=True)
    return gradients(model)


def distance(found: list[Tensor | None], expected: list[Tensor | None]) -> float:
    """Relative error of a list of gradients; a missing one is a zero. One that should vanish counts by its size."""
    total = sum((e**2).sum() for e in expected if e is not None)
    error = sum(
        ((0 if f is None else f) - (0 if e is None else e)).square().sum()
        for f, e in zip(found, expected, strict=True)
        if not (f is None and e is None)
    )
    return float(error**0.5) / max(float(total**0.5), 1e-3)

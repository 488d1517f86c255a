"""The comparison that every test of scoring makes."""

from typing import Any

import plain_reference as plain
import torch
from energy_losses.scoring import energy_matrix
from energy_zoo import EXACT
from torch import Tensor, nn


def make_candidates(shape: tuple[int, ...], steps: int = 4, da: int = 3) -> Tensor:
    generator = torch.Generator().manual_seed(5)
    return torch.rand(*shape, steps, da, generator=generator, dtype=torch.float64).to(plain.DEVICE) * 2 - 1


def masked(batch: plain.Batch, has_mask: bool) -> plain.Batch:
    return batch if has_mask else plain.Batch(batch.h, batch.a, None)


def check_equal(model: nn.Module, batch: plain.Batch, candidates: Tensor, **options: Any) -> None:
    """Energies, and gradients of a sum in which every energy has another weight, in weights, contexts and actions."""
    h, a = batch.h.clone().requires_grad_(), candidates.clone().requires_grad_()
    batch = plain.Batch(h, batch.a, batch.mask)
    found = energy_matrix(model, h, a, batch.mask, **options)
    listed = a if a.dim() == 3 else [list(own) for own in a]
    expected = plain.energies(model, batch, listed)
    assert found.shape == expected.shape
    assert torch.allclose(found, expected, rtol=0, atol=EXACT)
    weights = torch.linspace(-1, 2, expected.numel(), dtype=torch.float64).to(expected.device).view_as(expected)
    gradients = []
    for energies in (found, expected):
        h.grad = a.grad = None
        of_weights = plain.reference_gradients(model, (weights * energies).sum())
        gradients.append([*of_weights, h.grad, a.grad])
    assert plain.distance(*gradients) < EXACT

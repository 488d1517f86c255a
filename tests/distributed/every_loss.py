"""The loss of every strategy that the registry finds, called as a patched script calls it."""

import importlib
import inspect
from collections.abc import Sequence
from typing import Any, Protocol

import plain_reference as plain
import torch
import torch.distributed as dist
from torch import Tensor, nn

from energy_patch.strategies.base import Strategy
from energy_patch.strategies.registry import strategies


class Loss(Protocol):
    def __call__(
        self, model: nn.Module, batch: plain.Batch, layers: Sequence[Tensor] = (), **options: Any
    ) -> tuple[Tensor, Tensor, Tensor]: ...


def _loss(strategy: Strategy) -> Loss:
    function = getattr(importlib.import_module(f"energy_losses.{strategy.module}"), strategy.function)
    parameters = inspect.signature(function).parameters

    def loss(
        model: nn.Module, batch: plain.Batch, layers: Sequence[Tensor] = (), **options: Any
    ) -> tuple[Tensor, Tensor, Tensor]:
        originals = {"energy_model": model, "h": batch.h, "a_pos": batch.a, "pad_mask": batch.mask}
        given = {strategy.renamed.get(name, name): value for name, value in originals.items()}
        given["layer_actions"] = layers
        given |= {keyword: 3 for keyword, _ in strategy.config_values}
        given["world_size"] = dist.get_world_size() if dist.is_initialized() else 1
        given["generator"] = torch.Generator(batch.h.device).manual_seed(11)
        given |= options
        return function(**{name: value for name, value in given.items() if name in parameters})  # type: ignore[no-any-return]

    return loss


LOSSES = {name: _loss(strategy) for name, strategy in strategies().items() if strategy.function}
WITH_LAYERS = [name for name in LOSSES if "layer_actions" in strategies()[name].positional]
EXCHANGING_NOTHING = [name for name in LOSSES if not strategies()[name].cost(8, 3, 224, {}).gathered_bytes]

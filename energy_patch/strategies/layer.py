"""layer: negatives made from the policy's own early guesses, beside the rank's own batch."""

from __future__ import annotations

from energy_patch.strategies import hybrid
from energy_patch.strategies.base import LAYER_ACTIONS, MIN_DISTANCE, NUM_NEGATIVES, TAU, Cost, Strategy, Value


def cost(world_size: int, batch: int, action_bytes: int, options: dict[str, Value]) -> Cost:
    """B + M candidates for each of B rows; nothing is gathered."""
    return hybrid.cost(1, batch, action_bytes, options)


STRATEGY = Strategy(
    name="layer",
    summary="the rank's own batch, and negatives from the policy's earlier layers, from noise and from shuffled time",
    advice="where ranks cannot exchange actions: nothing travels",
    cost=cost,
    module="layer_infonce",
    function="layer_based_energy_infonce_loss",
    positional=("energy_model", "context_hidden", "ground_truth_actions", "layer_actions", "energy_mask", "tau"),
    renamed={"h": "context_hidden", "a_pos": "ground_truth_actions", "pad_mask": "energy_mask"},
    options=(LAYER_ACTIONS, TAU, NUM_NEGATIVES, MIN_DISTANCE),
    place=1,
)

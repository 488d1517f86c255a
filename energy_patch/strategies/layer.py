"""layer: explicit negatives made from the policy's own early guesses, whatever the batch size."""

from __future__ import annotations

from energy_patch.strategy import LAYER_ACTIONS, MIN_DISTANCE, NUM_NEGATIVES, TAU, Cost, Strategy, Value


def cost(world_size: int, batch: int, action_bytes: int, options: dict[str, Value]) -> Cost:
    """1 + M candidates for each of B rows; nothing is gathered."""
    negatives = int(options.get(NUM_NEGATIVES.name, NUM_NEGATIVES.default))
    return Cost(negatives, batch * (1 + negatives), 0)


STRATEGY = Strategy(
    name="layer",
    summary="negatives from the policy's earlier layers, from noise and from shuffled time, for each sample",
    advice="least risk: independent of batch size and ranks; take it where ranks cannot exchange actions",
    cost=cost,
    module="layer_infonce",
    function="layer_based_energy_infonce_loss",
    positional=("energy_model", "context_hidden", "ground_truth_actions", "layer_actions", "energy_mask", "tau"),
    renamed={"h": "context_hidden", "a_pos": "ground_truth_actions", "pad_mask": "energy_mask"},
    options=(LAYER_ACTIONS, TAU, NUM_NEGATIVES, MIN_DISTANCE),
)

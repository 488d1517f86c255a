"""hybrid: global, plus negatives made for each row from the policy's own early guesses."""

from __future__ import annotations

from energy_patch.strategies import global_infonce
from energy_patch.strategies.base import LAYER_ACTIONS, MIN_DISTANCE, NUM_NEGATIVES, TAU, Cost, Strategy, Value


def cost(world_size: int, batch: int, action_bytes: int, options: dict[str, Value]) -> Cost:
    """The global loss with M made negatives behind each row's candidates; these do not travel."""
    made = int(options.get(NUM_NEGATIVES.name, NUM_NEGATIVES.default))
    of_ranks = global_infonce.cost(world_size, batch, action_bytes, options)
    return Cost(of_ranks.negatives + made, of_ranks.evaluations + batch * made, of_ranks.gathered_bytes)


STRATEGY = Strategy(
    name="hybrid",
    summary="global, and negatives from the policy's earlier layers, from noise and from shuffled time as well",
    advice="where energies rank the policy's own guesses",
    cost=cost,
    module="hybrid_infonce",
    function="hybrid_energy_infonce_loss",
    positional=("energy_model", "context_hidden", "ground_truth_actions", "layer_actions", "energy_mask", "tau"),
    renamed={"h": "context_hidden", "a_pos": "ground_truth_actions", "pad_mask": "energy_mask"},
    options=(LAYER_ACTIONS, TAU, NUM_NEGATIVES, MIN_DISTANCE),
    passes_world_size=True,
)

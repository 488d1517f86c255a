"""adaptive: in-batch on one rank, global where local batches are large, hybrid where they are small."""

from __future__ import annotations

from energy_patch.strategies import global_infonce, hybrid
from energy_patch.strategies.base import LAYER_ACTIONS, MIN_DISTANCE, NUM_NEGATIVES, TAU, Cost, Option, Strategy, Value

MIN_LOCAL_BATCH = Option(
    "--min-local-batch",
    kind="field",
    default=8,
    help="Local batch size from which several ranks use the global loss.",
    field="energy_min_local_batch",
    keyword="min_local_batch",
    comment="Local batch from which the adaptive energy loss is the global one",
)


def cost(world_size: int, batch: int, action_bytes: int, options: dict[str, Value]) -> Cost:
    """The cost of the loss that the table chooses."""
    if world_size == 1 or batch >= int(options.get(MIN_LOCAL_BATCH.name, MIN_LOCAL_BATCH.default)):
        return global_infonce.cost(world_size, batch, action_bytes, options)
    return hybrid.cost(world_size, batch, action_bytes, options)


STRATEGY = Strategy(
    name="adaptive",
    summary="in-batch on one rank; on several, global from a local batch of 8 up and hybrid below",
    advice="one script for machines of every size",
    cost=cost,
    module="adaptive",
    function="adaptive_energy_loss",
    positional=("energy_model", "context_hidden", "ground_truth_actions", "layer_actions", "energy_mask"),
    renamed={"h": "context_hidden", "a_pos": "ground_truth_actions", "pad_mask": "energy_mask"},
    options=(LAYER_ACTIONS, TAU, NUM_NEGATIVES, MIN_LOCAL_BATCH, MIN_DISTANCE),
    passes_world_size=True,
    config_values=(("local_batch_size", "batch_size"),),
    place=4,
)

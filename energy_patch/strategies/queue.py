"""queue: global, plus the latest actions of all ranks as further negatives."""

from __future__ import annotations

from energy_patch.strategies import global_infonce
from energy_patch.strategies.base import MIN_DISTANCE, TAU, Cost, Option, Strategy, Value

QUEUE_SIZE = Option(
    "--queue-size",
    kind="field",
    default=256,
    help="Latest actions that are kept as further negatives.",
    field="energy_queue_size",
    keyword="queue_size",
    comment="Latest actions of all ranks kept as further negatives of the energy loss",
    alike=("queue_size", "queue_length"),
)


def cost(world_size: int, batch: int, action_bytes: int, options: dict[str, Value]) -> Cost:
    """The global loss with a full queue behind its candidates; the queue itself does not travel."""
    queue_size = int(options.get(QUEUE_SIZE.name, QUEUE_SIZE.default))
    of_ranks = global_infonce.cost(world_size, batch, action_bytes, options)
    return Cost(of_ranks.negatives + queue_size, of_ranks.evaluations + batch * queue_size, of_ranks.gathered_bytes)


STRATEGY = Strategy(
    name="queue",
    summary="global, and the latest actions of all ranks as well",
    advice="a single GPU, or gradient accumulation: more negatives than the ranks have at a time",
    cost=cost,
    module="queue_infonce",
    function="queued_energy_infonce_loss",
    positional=("energy_model", "h", "a_pos", "pad_mask", "tau"),
    options=(TAU, QUEUE_SIZE, MIN_DISTANCE),
    passes_world_size=True,
    on_one_rank="one rank has no others to ask; a queue of earlier actions adds negatives to a small batch",
)

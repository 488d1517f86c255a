"""global: InfoNCE over the actions of all ranks, each rank scoring only its own rows."""

from __future__ import annotations

from energy_patch.strategies.base import MIN_DISTANCE, TAU, Cost, Strategy, Value


def cost(world_size: int, batch: int, action_bytes: int, options: dict[str, Value]) -> Cost:
    """B rows against the N = W B actions of all ranks; the actions of the other W - 1 ranks arrive."""
    candidates = world_size * batch
    return Cost(candidates - 1, batch * candidates, (world_size - 1) * batch * action_bytes)


STRATEGY = Strategy(
    name="global",
    summary="the actions of all ranks are negatives: 8 x 3 trains exactly as 1 x 24",
    advice="best effect: take it wherever several ranks are trained",
    cost=cost,
    module="global_infonce",
    function="distributed_energy_inbatch_swap_infonce",
    positional=("energy_model", "h", "a_pos", "pad_mask", "tau"),
    options=(TAU, MIN_DISTANCE),
    passes_world_size=True,
    place=2,
)

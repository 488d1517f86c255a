"""local-batch: no new loss, only larger batches on fewer ranks and less accumulation."""

from __future__ import annotations

from energy_patch.strategies.base import Cost, Option, Strategy, Value

BATCH_SIZE = Option(
    "--batch-size",
    kind="default",
    default=6,
    help="New default of the config's batch_size.",
    field="batch_size",
)
ACCUMULATION = Option(
    "--grad-accumulation-steps",
    kind="default",
    default=2,
    help="New default of the config's grad_accumulation_steps.",
    field="grad_accumulation_steps",
)


def cost(world_size: int, batch: int, action_bytes: int, options: dict[str, Value]) -> Cost:
    """The original loss at the new batch size: all pairs of the local batch."""
    batch = int(options.get(BATCH_SIZE.name, BATCH_SIZE.default))
    return Cost(batch - 1, batch * batch, 0)


def notes(options: dict[str, Value], replaced: dict[str, str]) -> tuple[str, ...]:
    """What this strategy does and does not do, in numbers."""
    batch = int(options.get(BATCH_SIZE.name, BATCH_SIZE.default))
    steps = int(options.get(ACCUMULATION.name, ACCUMULATION.default))
    before = replaced.get(BATCH_SIZE.field, "")
    was = ""
    if before.isdecimal() and int(before) != batch:
        trend = "more" if batch > int(before) else "FEWER"
        was = f" ({trend} than the {int(before) - 1} at the default before, {before})"
    return (
        f"each sample is compared with batch_size - 1 = {batch - 1} negatives{was}; accumulating {steps} "
        f"steps adds none, so it is not {batch * steps - 1}",
        "flags on the launch command override these defaults: take --batch_size and --grad_accumulation_steps out",
        "8 ranks x 3 = 4 ranks x 6 = 2 ranks x 12 = 24 samples at a time, whatever is accumulated; start as many ranks "
        "as your total leaves",
    )


STRATEGY = Strategy(
    name="local-batch",
    summary="the original loss on larger local batches; the ranks still become one model",
    advice="if memory allows, and only where nothing else may change",
    cost=cost,
    options=(BATCH_SIZE, ACCUMULATION),
    notes=notes,
    place=3,
)

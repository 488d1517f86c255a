"""Gradient accumulation adds no negatives."""

from __future__ import annotations

import re
from collections.abc import Iterator

from energy_patch.diagnose.candidates import candidates_doubt
from energy_patch.diagnose.check import Check, Example, Found, edited
from energy_patch.diagnose.examples import LOOP, SEPARATE
from energy_patch.diagnose.study import Study

FIELD = re.compile(r"(grad(ient)?s?_)?accum\w*")


def find(study: Study) -> Iterator[Found]:
    is_patched = study.patch is not None and study.patch.replaces_loss
    if not study.loss or is_patched or candidates_doubt(study) is not None:
        return
    read = {node.attr.value for node, _ in study.program.attributes}
    for field in study.settings.fields:
        if not FIELD.fullmatch(field.name) or field.name not in read:
            continue
        steps = field.count if field.count is not None and field.count > 1 else 8
        total = steps * study.batch_size
        yield Found(
            field.node,
            f"{field.name} adds no negatives",
            f"The loss compares one micro-batch at a time: {steps} steps of {study.batch_size} samples give each "
            f"{study.batch_size - 1} negatives, not {total - 1}.",
        )


BASE = edited(
    LOOP,
    (
        "dist.init",
        "\n@dataclass\nclass Config:\n    batch_size: int = 3\n    grad_accumulation_steps: int = 4  # here\n\n\n"
        "cfg = Config()\ndist.init",
    ),
    ("    loss.backward()", "    loss = loss / cfg.grad_accumulation_steps\n    loss.backward()"),
)

CHECK = Check(
    name="accumulation",
    weight=10,
    title="gradient accumulation adds no negatives",
    why="The loss compares one micro-batch at a time, however many of them are accumulated.",
    cure="There is nothing to fix, but do not expect negatives from it: take them from the other ranks.",
    find=find,
    speaks=(Example("a field that the script reads", BASE, SEPARATE),),
    silent=(
        Example("nothing is accumulated", LOOP, SEPARATE),
        Example(
            "the field is never read",
            edited(BASE, ("  # here", ""), ("cfg.grad_accumulation_steps", "4")),
            SEPARATE,
        ),
        Example(
            "the script keeps earlier actions itself",
            edited(BASE, ("  # here", ""), ("    loss, E", "    actions = torch.cat([*kept, actions])\n    loss, E")),
            ("separate-models",),
        ),
    ),
)

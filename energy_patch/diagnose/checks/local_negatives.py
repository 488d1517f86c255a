"""Each sample is compared with the other samples of its own rank's batch and with nothing else."""

from __future__ import annotations

from collections.abc import Iterator

from energy_patch.diagnose.candidates import candidates_doubt
from energy_patch.diagnose.check import Check, Example, Found, edited
from energy_patch.diagnose.examples import LOOP
from energy_patch.diagnose.sharing import has_ranks
from energy_patch.diagnose.study import Study
from energy_patch.locate.facts import ORIGINAL_LOSS


def find(study: Study) -> Iterator[Found]:
    is_patched = study.patch is not None and study.patch.replaces_loss
    if study.gpus < 2 or not has_ranks(study) or is_patched or candidates_doubt(study) is not None:
        return
    here, all_ranks = study.batch_size - 1, study.gpus * study.batch_size - 1
    for call, _ in study.loss:
        yield Found(
            call,
            f"each sample is compared with {here} negative{'' if here == 1 else 's'}; on one GPU with the same total "
            f"it would be {all_ranks}",
            f"{ORIGINAL_LOSS} compares the {study.batch_size} action chunks of its own rank with each other, and with "
            "those of no other rank.",
        )


CHECK = Check(
    name="local-negatives",
    weight=100,
    title="each sample is compared with its own rank's batch only",
    why="On 8 GPUs with batch 3 each sample is compared with 2 negatives, on one GPU with batch 24 with 23. Gradient "
    "accumulation does not add any.",
    cure="`energy-patch apply` takes the actions of all ranks as candidates; only actions travel.",
    find=find,
    doubt=candidates_doubt,
    speaks=(
        Example(
            "the public loss, on the batch of one rank",
            edited(LOOP, ("actions, mask)\n", "actions, mask)  # here\n")),
            others=("separate-models",),
        ),
    ),
    silent=(
        Example(
            "the actions are gathered before the call",
            edited(LOOP, ("hidden, actions, mask)", "hidden, gather(actions), mask)")),
            others=("separate-models",),
        ),
        Example(
            "other actions are put beside them",
            edited(LOOP, ("    loss,", "    actions = torch.cat([actions, bank])\n    loss,")),
            others=("separate-models",),
        ),
        Example(
            "a function out of sight hands them back",
            edited(LOOP, ("    loss,", "    actions, _ = exchange(actions)\n    loss,")),
            others=("separate-models",),
        ),
        Example(
            "the script's own loss of that name gathers",
            edited(
                LOOP,
                ("EnergyModel, energy_inbatch_swap_infonce", "EnergyModel"),
                (
                    "dist.init",
                    "\ndef energy_inbatch_swap_infonce(energy_model, h, a_pos, pad_mask=None):\n"
                    "    return dist.all_gather(a_pos)\n\n\ndist.init",
                ),
            ),
            others=("separate-models",),
        ),
    ),
)

"""Each rank builds, trains and steps an energy model of its own, and one rank saves."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import libcst as cst

from energy_patch.analysis.conditions import on_one_rank
from energy_patch.diagnose.check import Check, Example, Found, edited
from energy_patch.diagnose.examples import LOOP
from energy_patch.diagnose.sharing import sharing
from energy_patch.diagnose.study import Place, Study
from energy_patch.syntax.nodes import last_name


def find(study: Study) -> Iterator[Found]:
    is_patched = study.patch is not None and study.patch.synchronizes
    model = study.model
    if model is None or study.gpus < 2 or is_patched or sharing(study).state != "separate":
        return
    saves = model.saves
    saves_one_rank = bool(saves) and all(on_one_rank(study.program, node) for node in saves)
    places = [
        *_places(study, model.uses.steps, "its optimizer's step"),
        *_places(study, saves, "only rank 0's is saved" if saves_one_rank else "it is saved"),
    ]
    is_seeded = any("seed" in last_name(call.func) for call, _ in study.program.calls)
    start = "a seed is set, which at best gives them the same start" if is_seeded else "no seed is set in this script"
    lost = f"{study.gpus - 1} of {study.gpus} trained models are thrown away, and " if saves_one_rank else ""
    samples = f"its own {study.batch_size} samples" if study.batch_size > 1 else "its own sample"
    yield Found(
        max((item.node for item in model.made), key=study.line),
        f"each of {study.gpus} ranks trains an energy model of its own",
        f"It is not wrapped in DDP, its gradients are never averaged, and {start}: {lost}each learns from {samples} a "
        "step; more negatives alone do not fix this.",
        tuple(places),
        options="--sync",
    )


def doubt(study: Study) -> Place | None:
    """Why it cannot be told whether the ranks share one model; None where it can, or where nobody would ask."""
    shared = sharing(study)
    is_asked = bool(study.loss) or study.model is not None
    if shared.state != "unknown" or not is_asked or (study.patch is not None and study.patch.synchronizes):
        return None
    what = f"whether the ranks share one model: {shared.what}"
    return study.place(shared.at, what) if shared.at is not None else Place(0, what)


def _places(study: Study, nodes: Iterable[cst.CSTNode], what: str) -> list[Place]:
    return sorted({study.place(node, what) for node in nodes}, key=lambda place: (place.path or "", place.line))


SPEAKING = edited(LOOP, (".cuda()\n", ".cuda()  # here\n"))
BEFORE_STEP = "    optimizer.step()\n"
BELOW = "optimizer = AdamW(energy_model.parameters())\n"


def _silent(what: str, *edits: tuple[str, str], files: dict[str, str] | None = None) -> Example:
    return Example(what, edited(LOOP, *edits), ("local-negatives",), files or {})


def _held_by(base: str, made: str) -> list[tuple[str, str]]:
    """Edits that build the model inside another module."""
    holder = (
        f"class Policy({base}):\n    def __init__(self):\n        super().__init__()\n"
        "        self.energy = EnergyModel(4096, 7)\n"
    )
    return [
        ("energy_model = EnergyModel(4096, 7).cuda()", f"policy = {made}.cuda()"),
        ("energy_model.parameters()", "policy.parameters()"),
        ("swap_infonce(energy_model", "swap_infonce(policy.energy"),
        ("dist.init", f"\n{holder}\n\ndist.init"),
    ]


HELD = _held_by("nn.Module", "Policy()")

CHECK = Check(
    name="separate-models",
    weight=90,
    title="each rank trains an energy model of its own",
    why="The model is built on every rank, never wrapped in DDP, and nothing averages its gradients: 8 ranks train 8 "
    "models on 3 samples each, and only rank 0's is saved.",
    cure="`energy-patch apply` puts `replicate(energy_model)` before the loss's call: rank 0's weights go to all ranks "
    "at the first training call, and gradients are averaged at the end of every backward pass; state-dict keys stay "
    "as they are.",
    find=find,
    doubt=doubt,
    speaks=(
        Example("nothing is done for several ranks", SPEAKING, ("local-negatives",)),
        Example(
            "the loss's call cannot be patched",
            edited(
                SPEAKING,
                ("dist.init", "losses = {'swap': energy_inbatch_swap_infonce}\ndist.init"),
                ("energy_inbatch_swap_infonce(energy", "losses['swap'](energy"),
                (
                    "loss, E_pos, E_neg = losses['swap'](energy_model, hidden, actions, mask)",
                    "loss = energy_model(hidden)",
                ),
            ),
        ),
        Example(
            "another loss is called",
            edited(
                SPEAKING,
                ("import EnergyModel, energy_inbatch_swap_infonce", "import EnergyModel, energy_infonce_loss"),
                (
                    "energy_inbatch_swap_infonce(energy_model, hidden, actions, mask)",
                    "energy_infonce_loss(energy_model)",
                ),
            ),
        ),
        Example(
            "another module holds it",
            edited(
                LOOP, *((old, new.replace("EnergyModel(4096, 7)", "EnergyModel(4096, 7)  # here")) for old, new in HELD)
            ),
            ("local-negatives",),
        ),
        Example(
            "its optimizer is one of several",
            edited(
                SPEAKING,
                (
                    "optimizer = AdamW(energy_model.parameters())",
                    "both = [AdamW(m.parameters()) for m in (policy, energy_model)]",
                ),
                ("    optimizer.step()\n", "    for optimizer in both:\n        optimizer.step()\n"),
            ),
            ("local-negatives",),
        ),
        Example(
            "it is built in another file",
            edited(
                LOOP,
                ("energy_model = EnergyModel(4096, 7).cuda()", "energy_model = build()"),
                ("dist.init", "from models import build\n\ndist.init"),
            ),
            ("local-negatives",),
            {
                "models.py": "from energy.energy_model import EnergyModel\n\n\ndef build():\n"
                "    return EnergyModel(4096, 7).cuda()  # here\n"
            },
        ),
    ),
    silent=(
        _silent("it is wrapped in DDP", (BELOW, f"energy_model = DDP(energy_model)\n{BELOW}")),
        _silent("it is wrapped where it is built", ("EnergyModel(4096, 7).cuda()", "DDP(EnergyModel(4096, 7).cuda())")),
        _silent(
            "a helper wraps it",
            ("dist.init", "\ndef wrap(module):\n    return DDP(module)\n\n\ndist.init"),
            ("EnergyModel(4096, 7).cuda()", "wrap(EnergyModel(4096, 7).cuda())"),
        ),
        _silent(
            "gradients are averaged by hand",
            (BEFORE_STEP, f"    for p in energy_model.parameters():\n        dist.all_reduce(p.grad)\n{BEFORE_STEP}"),
        ),
        _silent(
            "a function of another file averages them",
            (BEFORE_STEP, f"    agree(energy_model)\n{BEFORE_STEP}"),
            ("dist.init", "from utils import agree\n\ndist.init"),
            files={
                "utils.py": "def agree(model):\n    for p in model.parameters():\n        dist.all_reduce(p.grad)\n"
            },
        ),
        _silent("what is done to it is out of sight", (BEFORE_STEP, f"    mystery(energy_model)\n{BEFORE_STEP}")),
        _silent("a framework prepares it", (BELOW, f"{BELOW}energy_model = accelerator.prepare(energy_model)\n")),
        _silent("the module that holds it is wrapped", *_held_by("nn.Module", "DDP(Policy())")),
        _silent("a framework's class holds it", *_held_by("LightningModule", "Policy()")),
        _silent("no step was found", (BEFORE_STEP, "")),
        _silent("how it is built is out of sight", ("EnergyModel(4096, 7).cuda()", "build_energy_model()")),
    ),
)

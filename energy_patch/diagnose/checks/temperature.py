"""A temperature that is too warm for energies that lie close together.

Scores of a range of 2, as a cosine has, are trained with 0.05 to 0.1: MoCo (arXiv:1911.05722) and CLIP
(arXiv:2103.00020) start at 0.07, SimCSE (arXiv:2104.08821) takes 0.05.
"""

from __future__ import annotations

from collections.abc import Iterator

from energy_patch.diagnose.check import Check, Example, Found, edited
from energy_patch.diagnose.energies import range_of_energies, temperature
from energy_patch.diagnose.examples import LOOP, SEPARATE
from energy_patch.diagnose.study import Study
from energy_patch.strategies.base import TAU, TAU_MEASURED

USUAL, USUAL_RANGE = 0.07, 2.0
CURES = {
    "option": "`energy-patch apply --tau {tau}`",
    "field": f"Set {TAU.field} to {{tau}} in the script's settings.",
    "call": "Pass `tau={tau}` at the call.",
}
WARM = 15.0  # two logits that differ by less at most: 20 at tau 0.1 trains well, 6.7 at 0.3 does not (README)


def find(study: Study) -> Iterator[Found]:
    width = range_of_energies(study) if study.loss else None
    for call, scope in study.loss:
        told = temperature(study, call, scope)
        if width is None or told is None or width / told.value >= WARM:
            continue
        best = USUAL * width / USUAL_RANGE
        yield Found(
            call,
            f"temperature {told.value:g} is too warm for energies that lie within {width:g} of each other",
            f"Divided by {told.value:g} ({told.source}), two energies differ by {width / told.value:.1f} at most, so "
            f"the softmax can hardly tell the expert action from the others; {best:.2g} gives {width / best:.0f} "
            f"({TAU_MEASURED}).",
            cure=CURES[told.kind].format(tau=f"{best:.2g}"),
            options=f"--tau {best:.2g}" if told.kind == "option" else "",
        )


MODEL = """\
import torch.nn as nn


class EnergyModel(nn.Module):
    def __init__(self, state_dim, act_dim):
        super().__init__()
        self.head = nn.Linear(state_dim + act_dim, 1)
        self.act = nn.Sigmoid()
        self.scale = 2.0

    def forward(self, h, a, pad_mask=None):
        energy = self.act(self.head(join(h, a))) * self.scale + 0.1
        return energy.mean(dim=1)


def energy_inbatch_swap_infonce(energy_model, h, a_pos, pad_mask=None, tau=0.5):
    return scores(energy_model, h, a_pos, pad_mask) / tau
"""
BESIDE = {"energy/energy_model.py": MODEL}
CALL = "actions, mask)\n"
_BRANCHES = """\
        if gamma is not None:
            energy = energy * gamma ** torch.arange(8)
        return energy.sum(dim=1) if reduce == "sum" else energy.mean(dim=1)"""


def _speaks(what: str, *edits: tuple[str, str]) -> Example:
    script = edited(LOOP, (CALL, "actions, mask)  # here\n"))
    return Example(what, script, SEPARATE, {"energy/energy_model.py": edited(MODEL, *edits)})


def _silent(what: str, *edits: tuple[str, str]) -> Example:
    return Example(what, LOOP, SEPARATE, {"energy/energy_model.py": edited(MODEL, *edits)})


CHECK = Check(
    name="temperature",
    weight=80,
    title="the temperature is too warm for the range of the energies",
    why="Energies behind a sigmoid or tanh lie close together, like a cosine. Divided by a warm temperature their "
    f"softmax stays nearly flat, and there is little to learn from ({TAU_MEASURED}).",
    cure="`energy-patch apply` sets 0.07, which fits a range of 2 (MoCo and CLIP start at 0.07, SimCSE takes 0.05); "
    "`--tau` sets another. Where the call passes its own `tau`, change it there.",
    find=find,
    speaks=(
        Example("the loss's default", edited(LOOP, (CALL, "actions, mask)  # here\n")), SEPARATE, BESIDE),
        Example("passed at the call", edited(LOOP, (CALL, "actions, mask, tau=0.3)  # here\n")), SEPARATE, BESIDE),
        Example(
            "a field of the settings",
            edited(
                LOOP,
                (CALL, "actions, mask, cfg.tau)  # here\n"),
                ("dist.init", "\n@dataclass\nclass Config:\n    tau: float = 0.2\n\n\ncfg = Config()\ndist.init"),
            ),
            SEPARATE,
            BESIDE,
        ),
        _speaks("tanh, times a constant", ("self.act(self.head(join(h, a))) * self.scale + 0.1", "3 * torch.tanh(h)")),
        _speaks(
            "a default decides between two results",
            ("        return energy.mean(dim=1)", _BRANCHES),
            ("pad_mask=None):\n        energy", 'pad_mask=None, reduce="mean", gamma=None):\n        energy'),
        ),
        _speaks(
            "the loss decides between two results",
            ("        return energy.mean(dim=1)", _BRANCHES),
            ("pad_mask=None):\n        energy", 'pad_mask=None, reduce="sum", gamma=None):\n        energy'),
            ("return scores(energy_model, h, a_pos, pad_mask) / tau", 'return energy_model(h, a_pos, reduce="mean")'),
        ),
        _speaks(
            "a method and a layer of its own hand it on",
            ("        return energy.mean(dim=1)", "        return self.pool(self.finish(energy))"),
            (
                "    def forward(self",
                "    def finish(self, x):\n        x *= 0.5\n        return x\n\n    def forward(self",
            ),
            ("        self.scale", "        self.pool = Pool()\n        self.scale"),
            (
                "class EnergyModel",
                "class Pool(nn.Module):\n    def forward(self, x):\n        if x.ndim == 3:\n"
                "            return x.mean(dim=1)\n        return x\n\n\nclass EnergyModel",
            ),
        ),
        _speaks(
            "the last layer of a sequence is bounded",
            ("self.act = nn.Sigmoid()", "self.act = nn.Sequential(nn.Linear(8, 1), nn.Sigmoid())"),
        ),
    ),
    silent=(
        Example("cold enough", edited(LOOP, (CALL, "actions, mask, tau=0.1)\n")), SEPARATE, BESIDE),
        Example("the model's file is out of sight", LOOP, SEPARATE),
        Example(
            "a temperature that cannot be read", edited(LOOP, (CALL, "actions, mask, tau=warm())\n")), SEPARATE, BESIDE
        ),
        _silent("energies without a bound", ("self.act(", "nn.Softplus()(")),
        _silent("a range that is wide enough", ("self.scale = 2.0", "self.scale = 10.0")),
        _silent("a scale that is learned", ("self.scale = 2.0", "self.scale = nn.Parameter(two)")),
        _silent("energies of all steps are added up", ("energy.mean(dim=1)", "energy.sum(dim=1)")),
        _silent(
            "one of two results has no bound",
            ("        return energy", "        if h.sum() > 0:\n            return h\n        return energy"),
        ),
        _silent(
            "a loop may change it",
            (
                "        return energy",
                "        for layer in self.layers:\n            energy = layer(energy)\n        return energy",
            ),
        ),
        _silent(
            "it is changed in place",
            ("        return energy", "        energy.mul_(self.learned)\n        return energy"),
        ),
    ),
)

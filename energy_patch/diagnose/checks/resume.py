"""A resumed run loads the other modules and starts with a fresh energy model."""

from __future__ import annotations

import re
from collections.abc import Iterator

import libcst as cst

from energy_patch.analysis.conditions import tests_around
from energy_patch.analysis.vocabulary import LOADS
from energy_patch.diagnose.check import Check, Example, Found, edited
from energy_patch.diagnose.energy_model import Model, base_of_build
from energy_patch.diagnose.study import Study
from energy_patch.syntax.nodes import descendants, last_name

FIELD = re.compile(r"resume(_\w+)?")
FROM_FILE = re.compile(r"ckpt|checkpoint|resume|path|pretrain|weights|load|restore", re.IGNORECASE)
RESTORES_ALL = frozenset({"load_state", "restore", "load_all", "resume_from_checkpoint"})


def find(study: Study) -> Iterator[Found]:
    model = study.model
    field = next((item for item in study.settings.fields if FIELD.fullmatch(item.name)), None)
    if model is None or field is None or not model.made:
        return
    saves, others = model.saves, list(_loads_of_others(study))
    if not saves or not others or model.uses.loaded or model.uses.hidden or _may_load(study, model):
        return
    yield Found(
        max((item.node for item in model.made), key=study.line),
        "a resumed run starts with a fresh energy model",
        f"It is saved with every checkpoint, but with {field.name} set only other modules are loaded, so all that it "
        "had learned is lost, and nothing says so.",
        (
            *(study.place(node, "it is saved") for node in saves),
            *(study.place(node, "loads another module") for node in others),
        ),
    )


def _loads_of_others(study: Study) -> Iterator[cst.Call]:
    """Calls of load_state_dict on anything but optimizers, where the settings say to resume."""
    for call, _ in study.program.calls:
        if last_name(call.func) != "load_state_dict" or "optim" in study.program.text(call.func).lower():
            continue
        if any(re.search(r"\.resume\w*\b", study.program.text(test)) for test in tests_around(study.program, call)):
            yield call


def _may_load(study: Study, model: Model) -> bool:
    """Whether the model may come with loaded weights out of its builder, or out of a call that names it."""
    for item in model.made:
        for node in descendants(base_of_build(item.node)):
            if isinstance(node, cst.Name | cst.SimpleString) and FROM_FILE.search(node.value):
                return True
            definition = study.graph.callee.get(node) if isinstance(node, cst.Call) else None
            if definition is not None and any(LOADS.search(name) for name in study.graph.names_below(definition)):
                return True
    for call, _ in study.program.calls:
        name = last_name(call.func)
        words = " ".join(study.program.text(argument) for argument in call.args)
        if name in RESTORES_ALL or (re.search(r"load|restore", name) and re.search(r"energy|\bem\b", words)):
            return True
    return False


BASE = """\
from dataclasses import dataclass

import torch
from torch.nn.parallel import DistributedDataParallel as DDP
from torch.optim import AdamW
from energy.energy_model import EnergyModel, energy_inbatch_swap_infonce


@dataclass
class Config:
    batch_size: int = 3
    resume: bool = False


cfg = Config()
head = Head().cuda()
if cfg.resume:
    head.load_state_dict(torch.load("head.pt"))
energy_model = EnergyModel(4096, 7).cuda()  # here
energy_model = DDP(energy_model)
optimizer = AdamW(energy_model.parameters())
for hidden, actions in loader:
    loss, E_pos, E_neg = energy_inbatch_swap_infonce(energy_model, hidden, actions)
    loss.backward()
    optimizer.step()
    torch.save(energy_model.state_dict(), "energy_model.pt")
"""
NEGATIVES = ("local-negatives",)
BUILD = "energy_model = EnergyModel(4096, 7).cuda()\n"


def _silent(what: str, *edits: tuple[str, str]) -> Example:
    return Example(what, edited(BASE, ("  # here", ""), *edits), NEGATIVES)


CHECK = Check(
    name="resume",
    weight=52,
    title="a resumed run starts with a fresh energy model",
    why="The energy model is saved with every checkpoint, but a resumed run loads only the other modules.",
    cure="Load it after this line, as the script does for its other modules.",
    find=find,
    speaks=(Example("the other modules are loaded", BASE, NEGATIVES),),
    silent=(
        _silent(
            "it is loaded", (BUILD, f'{BUILD}if cfg.resume:\n    energy_model.load_state_dict(torch.load("e.pt"))\n')
        ),
        _silent("a function may load it", (BUILD, f"{BUILD}put_weights(energy_model, cfg)\n")),
        _silent("it is built from a file", ("EnergyModel(4096, 7)", "EnergyModel.from_pretrained(4096, 7)")),
        _silent("a framework restores everything", (BUILD, f'{BUILD}accelerator.load_state("state")\n')),
        _silent("it is never saved", ('    torch.save(energy_model.state_dict(), "energy_model.pt")\n', "")),
        _silent(
            "no module is loaded on resume", ('if cfg.resume:\n    head.load_state_dict(torch.load("head.pt"))\n', "")
        ),
        _silent("the settings know no resume", ("    resume: bool = False\n", "")),
    ),
)

"""Whether the ranks train one energy model, as far as a script's text says."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

import libcst as cst

from energy_patch.analysis.aliases import wrapped_part
from energy_patch.analysis.conditions import runs_alone
from energy_patch.analysis.refs import Origin
from energy_patch.analysis.uses import silent_exchanges
from energy_patch.analysis.vocabulary import EXCHANGES, WRAPS
from energy_patch.diagnose.energy_model import Model, base_of_build
from energy_patch.diagnose.study import Study
from energy_patch.syntax.nodes import dotted_name, last_name

# Names and environment variables by which a script shows that it runs as several processes.
RANKS = frozenset(
    {"torch.distributed", "distributed", "init_process_group", "DistributedDataParallel", "PartialState", "Accelerator"}
    | {"deepspeed", "lightning", "pytorch_lightning", "LightningModule", "Fabric", "Trainer", "TrainingArguments"}
)
RANK_VARIABLES = re.compile(r"LOCAL_RANK|RANK|WORLD_SIZE")

State = Literal["separate", "shared", "unknown"]


@dataclass(frozen=True)
class Sharing:
    """Whether the ranks train one model; `at` is the node that says so, or that hides it, `what` in words."""

    state: State
    what: str
    at: cst.CSTNode | None = None


def sharing(study: Study) -> Sharing:
    """What the script does to make its ranks' energy models one, as far as it can be read."""
    model = study.model
    if model is None:
        return Sharing("unknown", "no energy model was found that is given to the loss or built in sight")
    if not has_ranks(study):
        return Sharing("unknown", "no torch.distributed code found")
    if wrapped := [*model.uses.wrapped, *_wrapped(study, model)]:
        return Sharing("shared", "the energy model is wrapped for several ranks", wrapped[0])
    if model.uses.exchanged:
        return Sharing("shared", "its parameters or gradients are exchanged by hand", model.uses.exchanged[0])
    unread = [item.node for item in model.made if not _is_plain(study, item)]
    hidden = model.uses.hidden_from_some() + silent_exchanges(study.aliases) + unread
    if hidden:
        seen = study.program.seen(hidden[0])
        return Sharing("unknown", f"what `{seen[:60]}{'...' * (len(seen) > 60)}` does cannot be read", hidden[0])
    if not model.made:
        return Sharing("unknown", "where the energy model is built was not found")
    if not model.uses.steps:
        return Sharing("unknown", "the step of the energy model's optimizer was not found")
    return Sharing("separate", "each rank trains an energy model of its own")


def _wrapped(study: Study, model: Model) -> list[cst.CSTNode]:
    """The wrappers on the way back from the model to where it is made, apart from those for a lone process."""
    found: list[cst.CSTNode] = []
    for item in model.made:
        parts = study.aliases.made_from(item.node, item.scope, lambda node: [*wrapped_part(node), *_receiver(node)])
        found += [node for node in parts if _is_wrapper(node)]
    for ref in model.refs:
        for origin in study.aliases.origins(ref):
            if origin is not None and _is_wrapper(base_of_build(origin.node)):
                found.append(origin.node)
    return [node for node in found if not runs_alone(study.program, node)]


def _receiver(node: cst.BaseExpression) -> list[cst.BaseExpression]:
    base = base_of_build(node)
    return [base] if base is not node else []


def _is_wrapper(node: cst.BaseExpression) -> bool:
    return isinstance(node, cst.Call) and (last_name(node.func) in WRAPS or last_name(node.func).startswith("prepare"))


def _is_plain(study: Study, item: Origin) -> bool:
    """A call of a class, in which nothing makes ranks agree as far as it is in sight."""
    base = base_of_build(item.node)
    if not isinstance(base, cst.Call):
        return False
    definition = study.graph.made.get(base) or study.graph.callee.get(base)
    if definition is not None:
        return not any(EXCHANGES.search(name) for name in study.graph.names_below(definition))
    name = last_name(base.func)
    return re.match(r"[A-Z]", name) is not None and not EXCHANGES.search(name)


def has_ranks(study: Study) -> bool:
    """Whether anything in the code speaks of several processes."""
    program = study.program
    names = {node.value for node, _ in program.names} | {node.attr.value for node, _ in program.attributes}
    for node in program.scopes:
        if isinstance(node, cst.Import | cst.ImportFrom) and not isinstance(node.names, cst.ImportStar):
            names |= {dotted_name(alias.name) or "" for alias in node.names}
        elif isinstance(node, cst.SimpleString) and RANK_VARIABLES.fullmatch(node.value.strip("\"'")):
            return True
    return bool(names & RANKS)

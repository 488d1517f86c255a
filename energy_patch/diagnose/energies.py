"""What a script's text says of its energies: how far apart they can be, and the temperature they are divided by."""

from __future__ import annotations

from typing import Literal, NamedTuple

import libcst as cst

from energy_patch.analysis.intervals import Interval, Known
from energy_patch.analysis.ranges import Ranges
from energy_patch.diagnose.study import Study
from energy_patch.locate.facts import ORIGINAL_TAU
from energy_patch.locate.loss_calls import argument_of
from energy_patch.strategies.base import TAU
from energy_patch.syntax.nodes import descendants, dotted_name
from energy_patch.syntax.scopes import Scope


class TauInUse(NamedTuple):
    """What a call divides the energies by, and where that is written: `apply --tau` changes it only as an option."""

    value: float
    source: str
    kind: Literal["option", "field", "call"] = "call"


def temperature(study: Study, call: cst.Call, scope: Scope) -> TauInUse | None:
    """The temperature that a call trains with; None where that cannot be read."""
    passed = argument_of(call, "tau")
    if passed is not None:
        found = study.constants.number(passed, scope)
        return TauInUse(found, "passed at the call") if found is not None else None
    if any(item.star for item in call.args):
        return None
    if study.patch is not None and study.patch.replaces_loss:
        own = study.settings.field(TAU.field)  # the script had one of that name
        tau = own.number if own is not None else study.patch.options.get(TAU.name)
        return (
            TauInUse(tau, f"{TAU.field} in the script", "option" if own is None else "field")
            if isinstance(tau, float)
            else None
        )
    kind: Literal["option", "call"] = "option" if study.patch is None else "call"  # no option keeps the original loss
    function = study.graph.callee.get(call)
    if function is None:
        return TauInUse(ORIGINAL_TAU, "the loss's default", kind)
    default = next((item.default for item in function.params.params if item.name.value == "tau"), None)
    found = study.constants.number(default, study.program.scopes[function]) if default is not None else None
    return TauInUse(found, "the loss's default", kind) if found is not None else None


def range_of_energies(study: Study) -> float | None:
    """How far apart two energies can be, where the model's `forward` shows it."""
    if len(study.model_classes) != 1:
        return None
    forward = study.program.method(study.model_classes[0], "forward")
    if forward is None:
        return None
    found = Ranges(study.graph, study.constants).results(forward, _given(study, forward))
    return found.width if isinstance(found, Interval) else None


def _given(study: Study, forward: cst.FunctionDef) -> dict[str, Known]:
    """What the losses in sight pass for the model's parameters: a constant where all of them pass the same."""
    passed: dict[str, set[Known]] = {}
    losses = {study.graph.callee[call] for call, _ in study.loss if call in study.graph.callee}
    calls = [call for loss in losses for call in _calls_of_model(loss)]
    for call in calls:
        for name, item in study.graph.bound(call, forward):
            passed.setdefault(name, set()).add(study.constants.value(item.value, study.program.scopes[call]))
    alike = {name: values.pop() if len(values) == 1 else None for name, values in passed.items()}
    is_spread = any(item.star for call in calls for item in call.args)
    return {item.name.value: None for item in forward.params.params} if is_spread else alike


def _calls_of_model(loss: cst.FunctionDef) -> list[cst.Call]:
    """The calls of a loss's first parameter."""
    model = loss.params.params[0].name.value if loss.params.params else ""
    return [node for node in descendants(loss) if isinstance(node, cst.Call) and dotted_name(node.func) == model]

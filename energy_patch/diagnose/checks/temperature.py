"""A temperature that is too warm for energies that lie close together.

Scores of a range of 2, as a cosine has, are trained with 0.05 to 0.1: MoCo (arXiv:1911.05722) and CLIP
(arXiv:2103.00020) start at 0.07, SimCSE (arXiv:2104.08821) takes 0.05.
"""

from __future__ import annotations

from collections.abc import Iterator

import libcst as cst

from energy_patch.analysis.functions import returns_of
from energy_patch.diagnose.check import Check, Example, Found, edited
from energy_patch.diagnose.examples import LOOP, SEPARATE
from energy_patch.diagnose.study import Study, argument_of, base_of_build
from energy_patch.locate.facts import ORIGINAL_TAU
from energy_patch.syntax.nodes import last_name
from energy_patch.syntax.scopes import Scope

USUAL, USUAL_RANGE = 0.07, 2.0
WARM = 15.0  # two logits that differ by less at most: 20 at tau 0.1 trains well, 6.7 at 0.3 does not (README)
RANGES = {"sigmoid": 1.0, "Sigmoid": 1.0, "tanh": 2.0, "Tanh": 2.0}
KEEPS_RANGE = frozenset(
    {"mean", "view", "reshape", "squeeze", "unsqueeze", "float", "to", "flatten", "contiguous", "amax", "amin", "max"}
    | {"min", "double", "half", "bfloat16", "type", "clamp"}
)


def find(study: Study) -> Iterator[Found]:
    width = range_of_energies(study)
    for call, scope in study.loss:
        told = temperature(study, call, scope)
        if width is None or told is None or width / told[0] >= WARM:
            continue
        tau, by = told
        best = USUAL * width / USUAL_RANGE
        yield Found(
            call,
            f"temperature {tau:g} is too warm for energies that lie within {width:g} of each other",
            f"Divided by {tau:g} ({by}), two energies differ by {width / tau:.1f} at most, so the softmax can hardly "
            f"tell the expert action from the others; {best:.2g} gives {width / best:.0f}.",
        )


def temperature(study: Study, call: cst.Call, scope: Scope) -> tuple[float, str] | None:
    """The temperature that a call trains with and where it is written; None where that cannot be read."""
    passed = argument_of(call, "tau", 4)
    if passed is not None:
        return (found, "passed at the call") if (found := _number(study, passed, scope)) is not None else None
    if any(item.star for item in call.args):
        return None
    if study.patch is not None and study.patch.replaces_loss:
        tau = study.patch.options.get("tau")
        return (float(tau), "set by the patch") if tau is not None else None
    function = study.graph.callee.get(call)
    if function is None:
        return ORIGINAL_TAU, "the loss's default"
    default = next((item.default for item in function.params.params if item.name.value == "tau"), None)
    found = _number(study, default, study.program.scopes[function]) if default is not None else None
    return (found, "the loss's default") if found is not None else None


def _number(study: Study, node: cst.BaseExpression, scope: Scope) -> float | None:
    """A number that is written out, or that a field of the settings, a parameter or a constant has by default."""
    values: set[float | None] = set()
    for part in study.aliases.made_from(node, scope, lambda _: []):
        field = study.settings.read_by(part)
        if isinstance(part, cst.Float | cst.Integer):
            values.add(float(part.evaluated_value))
        elif field is not None:
            values.add(field.number)
        else:
            values.add(None)
    return values.pop() if len(values) == 1 else None


# The range of the energies


def range_of_energies(study: Study) -> float | None:
    """How far apart two energies can be, where the model's `forward` shows it."""
    classes = {
        definition
        for item in (study.model.made if study.model is not None else ())
        if isinstance(base := base_of_build(item.node), cst.Call)
        and (definition := study.graph.made.get(base)) is not None
    }
    if len(classes) != 1:
        return None
    forward = study.program.method(classes.pop(), "forward")
    return _Ranges(study).returned(forward, None) if forward is not None else None


class _Ranges:
    """The width of the interval that an expression's values lie in; None where it is not bounded in sight."""

    def __init__(self, study: Study) -> None:
        self.study = study
        self.program = study.program
        self._given: dict[cst.FunctionDef, float | None] = {}

    def returned(self, function: cst.FunctionDef, given: float | None) -> float | None:
        """The range of a function's results, `given` that of its first argument."""
        if function in self._given:
            return None
        self._given[function] = given
        inner = self.program.inside(function)
        widths = [self.of(item.value, inner) if item.value else None for item in returns_of(function)]
        del self._given[function]
        known = [width for width in widths if width is not None]
        return max(known) if known and len(known) == len(widths) else None

    def of(self, node: cst.BaseExpression, scope: Scope) -> float | None:
        match node:
            case cst.Name():
                return self._name(node, scope)
            case cst.Subscript():
                return self.of(node.value, scope)
            case cst.Call():
                return self._call(node, scope)
            case cst.UnaryOperation(operator=cst.Minus()):
                return self.of(node.expression, scope)
            case cst.BinaryOperation():
                return self._operation(node, scope)
        return None

    def _operation(self, node: cst.BinaryOperation, scope: Scope) -> float | None:
        left, right = self._constant(node.left, scope), self._constant(node.right, scope)
        width = self.of(node.left, scope) if right is not None else self.of(node.right, scope)
        constant = right if right is not None else left
        if width is None or constant is None:
            return None
        if isinstance(node.operator, cst.Add | cst.Subtract):
            return width
        if isinstance(node.operator, cst.Multiply):
            return width * abs(constant)
        is_divided = isinstance(node.operator, cst.Divide) and right
        return width / abs(constant) if is_divided else None

    def _constant(self, node: cst.BaseExpression, scope: Scope) -> float | None:
        return _number(self.study, node, scope)

    def _name(self, node: cst.Name, scope: Scope) -> float | None:
        """By the last assignment above, if it stands in the function's own body."""
        line = self.study.line(node)
        bindings = scope.bindings.get(node.value, [])
        if bindings and isinstance(bindings[0].node, cst.Param):
            function = scope.node
            if isinstance(function, cst.FunctionDef) and self._first(function) == node.value and len(bindings) == 1:
                return self._given.get(function)
            return None
        above = [item for item in bindings if self.study.line(item.node) < line]
        last = max(above, key=lambda item: self.study.line(item.node), default=None)
        if last is None or last.kind != "assign" or last.value is None or not isinstance(last.node, cst.Assign):
            return None
        is_whole = isinstance(last.node.targets[0].target, cst.Name)
        holder = scope.node.body if isinstance(scope.node, cst.FunctionDef) else None
        is_own = self.program.parents[self.program.parents[last.node]] is holder
        return self.of(last.value, scope) if is_whole and is_own else None

    def _first(self, function: cst.FunctionDef) -> str | None:
        names = [item.name.value for item in function.params.params]
        names = names[1:] if self.study.graph.takes_self(function) else names
        return names[0] if names else None

    def _call(self, call: cst.Call, scope: Scope) -> float | None:
        name = last_name(call.func)
        if name in RANGES:
            return RANGES[name]
        if not isinstance(call.func, cst.Attribute):
            return None
        layer = self._layer(call.func, scope)
        if layer is not None:
            if (width := RANGES.get(last_name(layer.func))) is not None:
                return width
            made = self.study.graph.made.get(layer)
            forward = self.program.method(made, "forward") if made is not None else None
            given = self.of(call.args[0].value, scope) if call.args else None
            return self.returned(forward, given) if forward is not None and given is not None else None
        return self.of(call.func.value, scope) if name in KEEPS_RANGE else None

    def _layer(self, callee: cst.Attribute, scope: Scope) -> cst.Call | None:
        """What `self.act` was made by."""
        ref = self.study.aliases.ref(callee, scope)
        origins = self.study.aliases.attributes.get(ref, []) if ref is not None else []
        origin = origins[0] if len(origins) == 1 else None
        return origin.node if origin is not None and isinstance(origin.node, cst.Call) else None


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

CHECK = Check(
    name="temperature",
    weight=80,
    title="the temperature is too warm for the range of the energies",
    why="Energies behind a sigmoid or tanh lie close together, like a cosine. Divided by a warm temperature their "
    "softmax stays nearly flat, and there is little to learn from.",
    cure="Train with 0.07 for a range of 2 (MoCo and CLIP 0.07, SimCSE 0.05): `energy-patch apply --tau 0.07`, or "
    "`tau=0.07` where the call passes its own.\n"
    "Measured, 8 x 3 patched, 500 steps, held-out top-1 of 24: 0.252 at 0.5, 0.381 at 0.3, 0.844 at 0.1, 0.871 at "
    "0.05.",
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
        Example(
            "tanh, times a constant",
            edited(LOOP, (CALL, "actions, mask)  # here\n")),
            SEPARATE,
            {
                "energy/energy_model.py": edited(
                    MODEL,
                    ("self.act(self.head(join(h, a))) * self.scale + 0.1", "3 * torch.tanh(self.head(join(h, a)))"),
                )
            },
        ),
    ),
    silent=(
        Example("cold enough", edited(LOOP, (CALL, "actions, mask, tau=0.1)\n")), SEPARATE, BESIDE),
        Example("the model's file is out of sight", LOOP, SEPARATE),
        Example(
            "a temperature that cannot be read", edited(LOOP, (CALL, "actions, mask, tau=warm())\n")), SEPARATE, BESIDE
        ),
        Example(
            "energies without a bound",
            LOOP,
            SEPARATE,
            {"energy/energy_model.py": edited(MODEL, ("self.act(", "nn.Softplus()("))},
        ),
        Example(
            "a range that is wide enough",
            LOOP,
            SEPARATE,
            {"energy/energy_model.py": edited(MODEL, ("self.scale = 2.0", "self.scale = 10.0"))},
        ),
        Example(
            "a scale that is learned",
            LOOP,
            SEPARATE,
            {"energy/energy_model.py": edited(MODEL, ("self.scale = 2.0", "self.scale = nn.Parameter(two)"))},
        ),
    ),
)

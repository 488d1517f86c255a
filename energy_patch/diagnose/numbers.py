"""The table: what a sample is compared with, and what a rank pays for it, now and under each strategy."""

from __future__ import annotations

from dataclasses import dataclass, field

import libcst as cst

from energy_patch.diagnose.study import Patch, Study
from energy_patch.locate.loss_calls import argument_of
from energy_patch.strategies.base import Cost, Strategy, Value
from energy_patch.strategies.registry import strategies

USUAL_BATCH = 3
USUAL_CHUNK = (8, 7)
CHUNK_NAMES = ("NUM_ACTIONS_CHUNK", "ACTION_DIM")
TRAVEL_BYTES = 4  # actions of 16 bits travel as float32, which every backend carries exactly
WIDTHS = {"float64": 8, "double": 8, "float32": 4, "float": 4, "bfloat16": 2, "float16": 2, "half": 2}
SHORT = {"bfloat16": "bf16", "float16": "fp16", "half": "fp16"}


@dataclass(frozen=True)
class Actions:
    """One expert action chunk as it travels; `seen` says which parts of it were read and which are assumed."""

    steps: int
    values: int
    value_bytes: int
    seen: str

    @property
    def bytes(self) -> int:
        return self.steps * self.values * self.value_bytes


@dataclass(frozen=True)
class Row:
    """One line of the table: what a sample is compared with, and what a rank pays for it in one step."""

    name: str
    what: str
    cost: Cost
    options: dict[str, Value] = field(default_factory=dict)


def batch_size(study: Study, given: int | None) -> tuple[int, str]:
    """The batch of one rank, and where it was read."""
    if given is not None:
        return given, "--batch-size"
    setting = study.settings.field("batch_size")
    if setting is not None and setting.count is not None:
        return setting.count, f"the config's default, {study.place(setting.node, '').where}"
    return USUAL_BATCH, "assumed"


def actions_of(study: Study) -> Actions:
    """The size of one action chunk, from the constants that the script imports and the type of its actions."""
    sizes = [_constant(study, name) for name in CHUNK_NAMES]
    (steps, values), shape = USUAL_CHUNK, "assumed"
    if sizes[0] is not None and sizes[1] is not None:
        steps, values, shape = sizes[0], sizes[1], "read"
    dtype = _dtype(study)
    if dtype is None:
        return Actions(steps, values, TRAVEL_BYTES, f"{steps} x {values} is {shape}; up to 32 bits assumed")
    name, where = dtype
    width = WIDTHS[name]
    said = f"{name} by {where}" if width >= TRAVEL_BYTES else f"{SHORT[name]} actions ({where}) are sent as float32"
    return Actions(steps, values, max(TRAVEL_BYTES, width), f"{steps} x {values} is {shape}; {said}")


def _constant(study: Study, name: str) -> int | None:
    """A whole number that the script imports from a file beside it."""
    value = study.program.constant(cst.Name(name), study.program.script.root)
    return int(value.value, 0) if isinstance(value, cst.Integer) else None


def _dtype(study: Study) -> tuple[str, str] | None:
    """The type that the actions are cast to last, and where that stands."""
    for call, scope in study.loss:
        actions = argument_of(call, "a_pos")
        for node in study.aliases.made_from(actions, scope, _receiver) if actions is not None else ():
            if not isinstance(node, cst.Call) or not isinstance(node.func, cst.Attribute):
                continue
            name = node.func.attr.value
            named = [item.value.attr.value for item in node.args if isinstance(item.value, cst.Attribute)]
            for dtype in [name, *(named if name in ("to", "type") else ())]:
                if dtype in WIDTHS:
                    return dtype, study.place(node, "").where
    return None


def _receiver(node: cst.BaseExpression) -> list[cst.BaseExpression]:
    is_method = isinstance(node, cst.Call) and isinstance(node.func, cst.Attribute)
    return [node.func.value] if is_method else []  # type: ignore[attr-defined]


def rows(gpus: int, batch: int, actions: Actions, patch: Patch | None) -> tuple[Row, ...]:
    """As the script is, as one GPU would be, and under every strategy."""
    total = gpus * batch
    if gpus > 1:
        what = f"{gpus} ranks x {batch}" + (", before the patch" if patch is not None else ", each rank by itself")
        found = [
            Row("now" if patch is None else "before", what, Cost(batch - 1, batch * batch, 0)),
            Row("one GPU", f"1 rank x {total}, if it fits", Cost(total - 1, total * total, 0)),
        ]
    else:
        found = [Row("now", f"1 rank x {batch}", Cost(batch - 1, batch * batch, 0))]
    for item in strategies().values():
        options: dict[str, Value] = {option.name: option.default for option in item.options}
        if patch is not None and patch.strategy is item:
            options |= {name: value for name, value in patch.options.items() if name in options}
        found.append(Row(item.name, _told(item, options), item.cost(gpus, batch, actions.bytes, options), options))
    return tuple(found)


def _told(strategy: Strategy, options: dict[str, Value]) -> str:
    """The options that the row's numbers depend on."""
    counts = [option for option in strategy.options if isinstance(option.default, int)]
    return " ".join(f"{option.flag} {options[option.name]}" for option in counts)

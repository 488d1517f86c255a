"""Each rank builds, trains and steps an energy model of its own, and one rank saves."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import libcst as cst

from energy_patch.findings.script import Finding, Place, Script
from energy_patch.findings.uses import DDP, EXCHANGES, STAYS, Uses, silent_exchanges
from energy_patch.follow import Ref
from energy_patch.synchronise import Trail
from energy_patch.syntax.tree import Scope, descendants, dotted_name, last_name

State = Literal["separate", "shared", "unknown"]


@dataclass(frozen=True)
class Sharing:
    """Whether the ranks train one model: `line` is what says so, `what` in words.

    The lines are where the model is built, stepped and saved; `saves_one_rank` if only one rank reaches the save.
    """

    state: State
    what: str
    line: int | None = None
    built: tuple[int, ...] = ()
    stepped: tuple[int, ...] = ()
    saved: tuple[int, ...] = ()
    saves_one_rank: bool = False


def sharing(script: Script) -> Sharing:
    """What the script does to make its ranks' energy models one, as far as it can be read."""
    trail = script.model
    if trail is None:
        return Sharing("unknown", "the energy model could not be followed")
    if not script.has_ranks:
        return Sharing("unknown", "nothing in the script speaks of several processes")
    uses = Uses(script, trail.refs, trail)
    saves = list(saves_of_model(script, trail, uses))
    lines = {
        "built": _lines(script, [statement for statement, _ in trail.builds]),
        "stepped": _lines(script, trail.steps),
        "saved": _lines(script, saves),
        "saves_one_rank": bool(saves) and all(script.on_one_rank(node) for node in saves),
    }

    def answer(state: State, what: str, node: cst.CSTNode | None = None) -> Sharing:
        return Sharing(state, what, script.line(node) if node is not None else None, **lines)  # type: ignore[arg-type]

    builds = [_judge_build(script, *build) for build in trail.builds]
    if any(state == "shared" for state in builds) or uses.wrapped:
        wrapped = uses.wrapped or [
            node for (node, _), state in zip(trail.builds, builds, strict=True) if state == "shared"
        ]
        return answer("shared", "the energy model is wrapped for several ranks", wrapped[0])
    if uses.exchanged:
        return answer("shared", "its parameters or gradients are exchanged by hand", uses.exchanged[0])
    hidden = uses.hidden(EXCHANGES, one_rank_is_fine=True) + silent_exchanges(script)
    hidden += [node for (node, _), state in zip(trail.builds, builds, strict=True) if state == "unknown"]
    if hidden:
        return answer("unknown", f"what `{_short(script.seen(hidden[0]))}` does cannot be read", hidden[0])
    if not trail.builds:
        return answer("unknown", "where the energy model is built was not found")
    if not trail.steps:
        return answer("unknown", "the step of the energy model's optimiser was not found")
    return answer("separate", "each rank trains an energy model of its own")


def check(script: Script) -> Iterator[Finding]:
    found = sharing(script)
    if found.state != "separate" or script.gpus < 2:
        return
    is_seeded = any("seed" in last_name(call.func) for call, _ in script.tree.calls)
    places = [Place(line, "is stepped") for line in found.stepped]
    places += [
        Place(line, "rank 0 alone saves its own" if found.saves_one_rank else "is saved") for line in found.saved
    ]
    start = "a seed is set, which at best makes them start alike" if is_seeded else "no seed is set in this script"
    lost = f"{script.gpus - 1} of {script.gpus} trained models are thrown away, and " if found.saves_one_rank else ""
    yield script.finding(
        "separate-models",
        found.built[-1],
        f"each of {script.gpus} ranks trains an energy model of its own",
        f"It is not wrapped in DDP, its gradients are never averaged, and {start}: {lost}each learns from its own "
        f"{script.batch_size} samples a step; more negatives alone do not mend this.",
        "`energy-patch apply` copies rank 0's weights to all ranks after the model is built and averages the gradients "
        "before they are clipped or used; state-dict keys stay as they are.",
        tuple(places),
    )


def saves_of_model(script: Script, trail: Trail, uses: Uses) -> Iterator[cst.CSTNode]:
    """The saves that the model itself goes into, not its optimiser."""
    refs: set[Ref | None] = {*trail.refs}
    for node in dict.fromkeys(uses.saved):
        names = (part for part in descendants(node) if isinstance(part, cst.Name | cst.Attribute))
        if any(
            script.follower.ref(part, script.tree.scopes[part]) in refs for part in names if part in script.tree.scopes
        ):
            yield node


def base_of_build(value: cst.BaseExpression) -> cst.BaseExpression:
    """`EnergyModel(...)` in `EnergyModel(...).to(device).train()`."""
    while isinstance(value, cst.Call) and isinstance(value.func, cst.Attribute) and value.func.attr.value in STAYS:
        value = value.func.value
    return value


def _judge_build(script: Script, statement: cst.CSTNode, scope: Scope) -> Literal["plain", "shared", "unknown"]:
    judged = [_judge_value(script, value, scope) for value in built_values(script, statement)]
    for state in ("shared", "unknown"):
        if state in judged:
            return state
    return "plain" if judged else "unknown"


def built_values(script: Script, statement: cst.CSTNode) -> Iterator[cst.BaseExpression]:
    """The expressions that the model is made by in a statement."""
    assert script.model is not None
    refs: set[Ref | None] = {*script.model.refs}
    for node in descendants(statement):
        if isinstance(node, cst.Assign | cst.AnnAssign) and node.value is not None:
            targets = [item.target for item in node.targets] if isinstance(node, cst.Assign) else [node.target]
            if any(script.follower.ref(target, script.tree.scopes[node]) in refs for target in targets):
                yield node.value


def _judge_value(script: Script, value: cst.BaseExpression, scope: Scope) -> Literal["plain", "shared", "unknown"]:
    assert script.model is not None
    base = base_of_build(value)
    if isinstance(base, cst.Name | cst.Attribute):
        return (
            "plain"
            if script.follower.ref(base, scope) in script.model.refs or dotted_name(base) == "None"
            else "unknown"
        )
    if not isinstance(base, cst.Call):
        return "unknown"
    name = last_name(base.func)
    if name in DDP:
        return "shared"
    if name == "compile" and base.args:
        return _judge_value(script, base.args[0].value, scope)
    definition: cst.CSTNode | None = script.class_of(base, scope) or script.callees.get(base)
    if definition is not None:
        names = _names_below(script, definition)
    else:
        target = script.neighbours.resolve(base.func, scope)
        known = target.names_used if target is not None else None
        if known is None:
            return "plain" if re.match(r"[A-Z]", name) and not EXCHANGES.search(name) else "unknown"
        names = known
    hits = {item for item in names if EXCHANGES.search(item)}
    if not hits:
        return "plain"
    return "shared" if isinstance(definition, cst.FunctionDef) and hits & DDP else "unknown"


def _names_below(script: Script, definition: cst.CSTNode) -> set[str]:
    """Every identifier in a definition, and in the functions of this file that it calls."""
    names: set[str] = set()
    waiting = [definition]
    reached = {definition}
    while waiting:
        for node in descendants(waiting.pop()):
            if isinstance(node, cst.Name):
                names.add(node.value)
            callee = script.callees.get(node) if isinstance(node, cst.Call) else None
            if callee is not None and callee not in reached:
                reached.add(callee)
                waiting.append(callee)
    return names


def _lines(script: Script, nodes: object) -> tuple[int, ...]:
    return tuple(sorted({script.line(node) for node in nodes}))  # type: ignore[attr-defined]


def _short(text: str, limit: int = 60) -> str:
    return text if len(text) <= limit else f"{text[: limit - 3]}..."

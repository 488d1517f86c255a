"""Actions that are predicted from every layer and then used by nothing."""

from __future__ import annotations

import re
from collections.abc import Iterator

import libcst as cst

from energy_patch.diagnose.check import Check, Example, Found, edited
from energy_patch.diagnose.examples import LOOP, SEPARATE
from energy_patch.diagnose.study import Study
from energy_patch.syntax.nodes import descendants
from energy_patch.syntax.scopes import Binding, Scope

NAME = re.compile(r"layer|action", re.IGNORECASE)
READS_ALL = frozenset({"locals", "vars", "eval", "exec", "globals"})


def find(study: Study) -> Iterator[Found]:
    if study.patch is not None and (study.patch.strategy is None or study.patch.strategy.option("layer_actions")):
        return
    for scope in study.program.script.all_scopes:
        for name, bindings in scope.bindings.items():
            if not NAME.search(name) or name in scope.declared_outer or not _starts_empty(bindings):
                continue
            appends = _appends_only(study, scope, name)
            if not appends or not all(_is_work_in_a_loop(study, call) for call in appends):
                continue
            function = scope.node
            who = f"Every call of {function.name.value}" if isinstance(function, cst.FunctionDef) else "The script"
            yield Found(
                appends[0],
                f"{name} is computed and never used",
                f"{who} fills this list in a loop, and nothing reads it: it costs time and memory and has no effect.",
                (study.place(bindings[0].node, "it starts as an empty list"),),
            )


def _starts_empty(bindings: list[Binding]) -> bool:
    """Bound once, as an empty list."""
    if len(bindings) != 1 or bindings[0].kind != "assign" or not isinstance(bindings[0].node, cst.Assign):
        return False
    value = bindings[0].value
    is_call = isinstance(value, cst.Call) and not value.args and isinstance(value.func, cst.Name)
    is_list = is_call and value.func.value == "list"  # type: ignore[union-attr]
    return len(bindings[0].node.targets) == 1 and (is_list or (isinstance(value, cst.List) and not value.elements))


def _appends_only(study: Study, scope: Scope, name: str) -> list[cst.Call]:
    """The calls of its `append`, if it is used in no other way, in this scope or in one inside."""
    found: list[cst.Call] = []
    parents = study.program.parents
    for node, at in study.program.script.names:
        if at.function() is scope and node.value in READS_ALL:
            return []
        if node.value != name or at.owner(name) is not scope or isinstance(parents[node], cst.AssignTarget):
            continue
        attribute = parents[node]
        call = parents[attribute]
        is_append = isinstance(attribute, cst.Attribute) and attribute.attr.value in ("append", "extend")
        if not (is_append and isinstance(call, cst.Call) and isinstance(parents[call], cst.Expr)):
            return []
        found.append(call)
    return found


def _is_work_in_a_loop(study: Study, call: cst.Call) -> bool:
    for ancestor in study.program.ancestors(call):
        if isinstance(ancestor, cst.FunctionDef):
            return False
        if isinstance(ancestor, cst.For | cst.While):
            return any(isinstance(node, cst.Call) for node in descendants(ancestor.body) if node is not call)
    return False


BASE = edited(
    LOOP,
    (
        "    loss, E",
        "    for states in hidden:\n        layer_actions.append(head.predict(states))  # here\n    loss, E",
    ),
    ("for hidden,", "layer_actions = []\nfor hidden,"),
)


def _silent(what: str, *edits: tuple[str, str]) -> Example:
    return Example(what, edited(BASE, ("  # here", ""), *edits), SEPARATE)


CHECK = Check(
    name="unused-layer-actions",
    weight=20,
    title="actions are predicted from every layer and never used",
    why="A loop runs the action head on every layer and collects the results, and nothing reads them.",
    cure="Delete the loop, or use it: strategies that have `--layer-actions` take such actions as negatives.",
    find=find,
    speaks=(Example("only appended to", BASE, SEPARATE),),
    silent=(
        _silent("it is read", ("    loss.backward()", "    log(layer_actions)\n    loss.backward()")),
        _silent("it does not start empty", ("layer_actions = []", "layer_actions = batch['layers']")),
        _silent("it has a second name", ("layer_actions = []", "layer_actions = kept = []")),
        _silent(
            "a function reads it", ("    loss.backward()", "    later = lambda: layer_actions\n    loss.backward()")
        ),
        _silent(
            "no work is done for it", ("layer_actions.append(head.predict(states))", "layer_actions.append(states)")
        ),
    ),
)

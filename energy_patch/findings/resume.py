"""A resumed run loads the other modules and starts with a fresh energy model."""

from __future__ import annotations

import re
from collections.abc import Iterator

import libcst as cst

from energy_patch.findings.accumulation import config_fields
from energy_patch.findings.script import Finding, Place, Script
from energy_patch.findings.separate_models import base_of_build, built_values, saves_of_model
from energy_patch.findings.uses import LOADS, Uses
from energy_patch.syntax.tree import descendants, last_name

FIELD = re.compile(r"resume(_\w+)?")
FROM_FILE = re.compile(r"ckpt|checkpoint|resume|path|pretrain|weights|load|restore", re.IGNORECASE)


def check(script: Script) -> Iterator[Finding]:
    trail = script.model
    field = next((item for item in config_fields(script) if FIELD.fullmatch(item[0])), None)
    if trail is None or field is None or not trail.builds:
        return
    uses = Uses(script, trail.refs, trail)
    saves = list(saves_of_model(script, trail, uses))
    others = list(_loads_of_others(script))
    if not saves or not others or uses.loaded or uses.hidden(LOADS, one_rank_is_fine=False):
        return
    if any(_may_load(script, statement) for statement, _ in trail.builds) or _loads_by_name(script):
        return
    built = trail.builds[-1][0]
    yield script.finding(
        "resume",
        built,
        "a resumed run starts with a fresh energy model",
        f"It is saved with every checkpoint, but with {field[0]} set only other modules are loaded, so all that it "
        "had learned is lost without a word.",
        "Load it behind this line, as the script does for its other modules.",
        (
            *(Place(script.line(node), "is saved") for node in saves),
            *(Place(script.line(node), "loads another module") for node in others),
        ),
    )


def _loads_of_others(script: Script) -> Iterator[cst.Call]:
    """Calls of load_state_dict on anything, where the config says to resume."""
    for call, _ in script.tree.calls:
        if last_name(call.func) != "load_state_dict" or "optim" in script.tree.text(call.func).lower():
            continue
        around = list(script.tree.ancestors(call))
        tests = [item.test for item in around if isinstance(item, cst.If) and item.body in around]
        if any(re.search(r"\.resume\w*\b", script.tree.text(test)) for test in tests):
            yield call


def _may_load(script: Script, statement: cst.CSTNode) -> bool:
    """Whether the model may come out of its builder with loaded weights."""
    for value in built_values(script, statement):
        for node in descendants(base_of_build(value)):
            if isinstance(node, cst.Name | cst.SimpleString) and FROM_FILE.search(node.value):
                return True
            function = script.callees.get(node) if isinstance(node, cst.Call) else None
            for part in descendants(function) if function is not None else ():
                if isinstance(part, cst.Name) and LOADS.search(part.value):
                    return True
            if isinstance(node, cst.Call):
                target = script.neighbours.resolve(node.func, script.tree.scopes[node])
                if target is not None and any(LOADS.search(name) for name in target.names_used or ()):
                    return True
    return False


def _loads_by_name(script: Script) -> bool:
    """`load_checkpoint("energy_model", ...)`, or a framework that restores everything it was given."""
    for call, _ in script.tree.calls:
        name = last_name(call.func)
        if name in ("load_state", "restore", "load_all", "resume_from_checkpoint"):
            return True
        is_load = re.search(r"load|restore", name) is not None
        if is_load and re.search(r"energy|\bem\b", " ".join(script.tree.text(argument) for argument in call.args)):
            return True
    return False

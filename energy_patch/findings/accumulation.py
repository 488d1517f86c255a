"""Gradient accumulation adds no negatives."""

from __future__ import annotations

import re
from collections.abc import Iterator

import libcst as cst

from energy_patch.findings.negatives import doubt
from energy_patch.findings.script import Finding, Script

FIELD = re.compile(r"(grad(ient)?s?_)?accum\w*")


def check(script: Script) -> Iterator[Finding]:
    if not script.loss or doubt(script) is not None:
        return
    for name, default, line in config_fields(script):
        if not FIELD.fullmatch(name) or name not in _read(script):
            continue
        steps = int(default) if default.isdecimal() and int(default) > 1 else 8
        total = steps * script.batch_size
        yield script.finding(
            "accumulation",
            line,
            f"{name} adds no negatives",
            f"The loss compares one micro-batch at a time: {steps} steps of {script.batch_size} samples give each "
            f"{script.batch_size - 1} negatives, not {total - 1}.",
            "Nothing needs mending; only do not count on it. Take negatives from the other ranks instead.",
        )


def config_fields(script: Script) -> Iterator[tuple[str, str, int]]:
    """Name, default as written, and line of each field of the config class."""
    node = script.values.config.config_class
    for statement in node.body.body if node is not None else ():
        for part in statement.body if isinstance(statement, cst.SimpleStatementLine) else ():
            if isinstance(part, cst.AnnAssign) and isinstance(part.target, cst.Name):
                default = script.tree.text(part.value) if part.value is not None else ""
                yield part.target.value, default, script.line(part)


def _read(script: Script) -> set[str]:
    return {node.attr.value for node, _ in script.tree.attributes}

"""What `diagnose` can find: a check a file, each right or silent.

A check is a function that takes a `Script` and yields findings. Whatever it cannot prove from the text, it leaves out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from energy_patch.findings import (
    accumulation,
    around_ddp,
    forward_callers,
    negatives,
    resume,
    separate_models,
    unpacking,
    unused_layers,
)
from energy_patch.findings.script import Finding, Script

Check = Callable[[Script], Iterator[Finding]]

CHECKS: tuple[Check, ...] = (
    negatives.check,
    separate_models.check,
    around_ddp.check,
    forward_callers.check,
    resume.check,
    unpacking.check,
    unused_layers.check,
    accumulation.check,
)


def find_all(script: Script) -> tuple[Finding, ...]:
    """Every finding of every check, the weightiest first."""
    return tuple(finding for check in CHECKS for finding in check(script))

"""The registry: every module in this folder that defines `CHECK` is a finding, nothing else is needed."""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache

from energy_patch.diagnose.check import Check, Finding
from energy_patch.diagnose.study import Place, Study


@cache
def checks() -> tuple[Check, ...]:
    """All checks, the weightiest first."""
    modules = [importlib.import_module(f"{__name__}.{item.name}") for item in pkgutil.iter_modules(__path__)]
    found: list[Check] = [module.CHECK for module in modules]
    return tuple(sorted(found, key=lambda check: (-check.weight, check.name)))


def find_all(study: Study) -> tuple[Finding, ...]:
    """Every finding of every check, the weightiest first."""
    return tuple(
        Finding(
            check.name,
            study.path_of(found.node),
            study.line(found.node),
            found.title,
            found.why,
            found.cure or check.cure,
            found.places,
            found.options,
        )
        for check in checks()
        for found in check.find(study)
    )


def doubts(study: Study) -> tuple[Place, ...]:
    """What the checks could not tell."""
    return tuple(place for check in checks() if (place := check.doubt(study)) is not None)

"""The registry: every module in this folder that defines `STRATEGY` is a strategy, nothing else is needed."""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache

from energy_patch.strategy import Strategy

DEFAULT = "global"


@cache
def strategies() -> dict[str, Strategy]:
    """All strategies by name, the recommended one first."""
    modules = (importlib.import_module(f"{__name__}.{item.name}") for item in pkgutil.iter_modules(__path__))
    found = [module.STRATEGY for module in modules]
    return {item.name: item for item in sorted(found, key=lambda item: (item.name != DEFAULT, item.name))}

"""The registry: every module in this folder that defines `STRATEGY` is a strategy, nothing else is needed."""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache

import energy_patch.strategies
from energy_patch.strategies.base import Option, Strategy

DEFAULT = "global"


@cache
def strategies() -> dict[str, Strategy]:
    """All strategies by name, the recommended one first."""
    names = (item.name for item in pkgutil.iter_modules(energy_patch.strategies.__path__))
    modules = (importlib.import_module(f"energy_patch.strategies.{name}") for name in names)
    found = [module.STRATEGY for module in modules if hasattr(module, "STRATEGY")]
    return {item.name: item for item in sorted(found, key=lambda item: (item.name != DEFAULT, item.name))}


def all_options() -> dict[str, Option]:
    """The options of all strategies by name, each once."""
    return {option.name: option for item in strategies().values() for option in item.options}


def in_order() -> tuple[Strategy, ...]:
    """All strategies as they are listed for a reader."""
    return tuple(sorted(strategies().values(), key=lambda item: (item.place, item.name)))

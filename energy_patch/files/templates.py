"""The loss modules that are copied beside a script: where they lie, and which of them belong together."""

from __future__ import annotations

import ast
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from energy_patch.strategies.base import FOLDER_NAME

_WITH_EVERY_STRATEGY = frozenset({"__init__.py", "check.py"})


@cache
def templates_folder() -> Path:
    """`energy_patch/templates/` in a wheel, `templates/` beside the package in a checkout."""
    package = Path(__file__).resolve().parents[1]
    packaged = package / "templates" / FOLDER_NAME
    return packaged if packaged.is_dir() else package.parent / "templates" / FOLDER_NAME


def template_names() -> frozenset[str]:
    """File names of all modules that this version can copy."""
    return frozenset(path.name for path in templates_folder().glob("*.py"))


def template_bytes(name: str) -> bytes:
    """One module as it is copied."""
    return (templates_folder() / name).read_bytes()


def module_closure(names: Iterable[str]) -> tuple[str, ...]:
    """The modules named, those that come with any strategy, and all that they import from each other, sorted."""
    known = template_names()
    found: set[str] = set()
    waiting = [*(_WITH_EVERY_STRATEGY & known), *names]
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += _siblings(template_bytes(name)) & known
    return tuple(sorted(found))


@cache
def _siblings(source: bytes) -> frozenset[str]:
    """File names of the modules that a template imports from its own folder."""
    stems: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and (node.level == 1 or node.module == FOLDER_NAME):
            within = node.module if node.level else None
            stems.update([within.partition(".")[0]] if within else [alias.name for alias in node.names])
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith(f"{FOLDER_NAME}."):
            stems.add((node.module or "").split(".")[1])
        elif isinstance(node, ast.Import):
            dotted = [alias.name.split(".") for alias in node.names]
            stems.update(parts[1] for parts in dotted if parts[0] == FOLDER_NAME and len(parts) > 1)
    return frozenset(f"{stem}.py" for stem in stems)

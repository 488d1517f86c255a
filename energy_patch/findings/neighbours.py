"""The modules beside a script, which its imports lead to: read and parsed, never imported."""

from __future__ import annotations

import ast
import warnings
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import libcst as cst

from energy_patch.refusal import Refusal
from energy_patch.syntax.source import decode_source
from energy_patch.syntax.tree import Scope, Tree, dotted_name

Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


@dataclass(frozen=True)
class Module:
    """One parsed file; `definitions` are those at its top level, the last of a name counts."""

    path: Path
    tree: ast.Module

    @cached_property
    def definitions(self) -> dict[str, Definition]:
        return {node.name: node for node in self.tree.body if isinstance(node, Definition)}

    def integer(self, name: str) -> int | None:
        """A top-level constant that is assigned once, as a whole number."""
        found = [
            node.value
            for node in ast.walk(self.tree)
            if isinstance(node, ast.Assign)
            and any(isinstance(target, ast.Name) and target.id == name for target in node.targets)
        ]
        value = found[0] if len(found) == 1 else None
        is_number = isinstance(value, ast.Constant) and isinstance(value.value, int)
        return value.value if is_number else None  # type: ignore[union-attr]

    def names_used_by(self, definition: Definition) -> set[str]:
        """Every identifier in a definition and in those of this file that it uses, and so on."""
        used: set[str] = set()
        waiting = [definition]
        reached = {definition.name}
        while waiting:
            names = identifiers(waiting.pop())
            used |= names
            more = [name for name in names if name in self.definitions and name not in reached]
            reached.update(more)
            waiting += [self.definitions[name] for name in more]
        return used


@dataclass(frozen=True)
class Target:
    """What an imported name is, in the file that defines it."""

    module: Module
    name: str

    @property
    def definition(self) -> Definition | None:
        return self.module.definitions.get(self.name)

    @property
    def names_used(self) -> set[str] | None:
        return self.module.names_used_by(self.definition) if self.definition is not None else None


class Neighbours:
    """Finds what a script's imports name in the folder that Python puts first on its path, the script's own."""

    def __init__(self, tree: Tree) -> None:
        self.tree = tree
        self.folder = tree.source.path.resolve().parent
        self._modules: dict[Path, Module | None] = {}

    def resolve(self, callee: cst.CSTNode, scope: Scope) -> Target | None:
        """Where an imported name is defined, or None where that is not beside the script."""
        name = dotted_name(callee)
        first, _, rest = (name or "").partition(".")
        bindings = scope.resolve(first) if first else []
        if len(bindings) != 1 or not isinstance(alias := bindings[0].node, cst.ImportAlias):
            return None
        folder = self.folder
        imported = self.tree.parents[alias]
        path = dotted_name(alias.name) or ""
        if isinstance(imported, cst.ImportFrom):
            path = ".".join(part for part in (dotted_name(imported.module) if imported.module else "", path) if part)
            for _ in range(len(imported.relative) - 1):
                folder = folder.parent
        elif alias.asname is None:
            path = first
        return self._target(folder, [*path.split("."), *(rest.split(".") if rest else [])])

    def _target(self, folder: Path, parts: list[str], depth: int = 0) -> Target | None:
        module = self._read(folder, parts[:-1]) if len(parts) > 1 else None
        if module is None or depth > 3:
            return None
        target = Target(module, parts[-1])
        if target.definition is not None or module.integer(parts[-1]) is not None:
            return target
        package = module.path.parent
        for node in module.tree.body:  # handed on by an __init__.py
            if isinstance(node, ast.ImportFrom):
                for alias in node.names:
                    if (alias.asname or alias.name) == parts[-1] and node.level <= 1:
                        base = package if node.level else self.folder
                        return self._target(base, [*(node.module or "").split("."), alias.name], depth + 1)
        return None

    def _read(self, folder: Path, parts: list[str]) -> Module | None:
        stem = folder.joinpath(*parts)
        for path in (stem / "__init__.py", stem.with_name(f"{stem.name}.py")):
            if path not in self._modules:
                self._modules[path] = _parse(path)
            if (module := self._modules[path]) is not None:
                return module
        return None


def identifiers(node: ast.AST) -> set[str]:
    """Every name, attribute and imported name below a node."""
    found: set[str] = set()
    for part in ast.walk(node):
        if isinstance(part, ast.Name):
            found.add(part.id)
        elif isinstance(part, ast.Attribute):
            found.add(part.attr)
        elif isinstance(part, ast.alias):
            found.add(part.name)
    return found


def _parse(path: Path) -> Module | None:
    if not path.is_file():
        return None
    try:
        source = decode_source(path, path.read_bytes())
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return Module(path, ast.parse(source.raw))
    except (OSError, Refusal, SyntaxError, ValueError, RecursionError, MemoryError):
        return None

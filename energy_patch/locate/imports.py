"""Where an import may stand, and how `torch.distributed` is named."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import libcst as cst

from energy_patch.locate.local_modules import local_module, own_folder
from energy_patch.syntax.layout import point_after
from energy_patch.syntax.nodes import dotted_name
from energy_patch.syntax.places import LinePoint
from energy_patch.syntax.scopes import Binding, Scope
from energy_patch.syntax.source import Source
from energy_patch.syntax.tree import Tree

Import = cst.Import | cst.ImportFrom


def import_point(tree: Tree, found: list[tuple[cst.Call, Scope]], first: int) -> tuple[LinePoint, str]:
    """After the top-level import that brought in the loss, else after the last one before the patch's first line.

    And what stands before the name of a folder beside the script, as in the script's own imports: nothing, a dot, or
    the package that the script is a part of.
    """
    imports = [
        (line, part)
        for line in tree.module.body
        for part in (line.body if isinstance(line, cst.SimpleStatementLine) else ())
        if isinstance(part, Import)
    ]
    top_level = [line for line, _ in imports if line in tree.module.body[:first]]
    brought = [
        imported
        for call, scope in found
        for binding in scope.resolve((dotted_name(call.func) or "").split(".")[0])
        if isinstance(imported := tree.parents[binding.node], Import)
    ]
    bringing = next((line for imported in brought if (line := tree.parents[imported]) in top_level), None)
    prefix = _prefix(tree.script, brought, [part for _, part in imports])
    statement = bringing or (top_level[-1] if top_level else _docstring(tree.module))
    source = tree.source
    if statement is None:
        return LinePoint(_after_opening_comments(source), "", 1), prefix
    return point_after(tree, statement), prefix


def _prefix(script: Path, brought: Sequence[Import], others: Sequence[Import]) -> str:
    """A script of a package, started by `python -m`, finds what lies beside it by the package's name only.

    As the import of the loss says; where that reads no file beside the script, any other import may say so.
    """
    modules = [module for imported in brought for module in _modules(script, imported)]
    if all(local_module(script, module) is None for module in modules):
        modules += [module for imported in others for module in _modules(script, imported)]
    return next((prefix for module in modules if (prefix := _own_package(script, module))), "")


def _modules(script: Path, imported: Import) -> list[str]:
    """What an import names, with the dots of a relative one; `a.b` of `from a import b` where `a` is no file."""
    if isinstance(imported, cst.Import):
        return [dotted_name(alias.name) or "" for alias in imported.names]
    base = "." * len(imported.relative) + ((dotted_name(imported.module) or "") if imported.module else "")
    if isinstance(imported.names, cst.ImportStar) or local_module(script, base) is not None:
        return [base]
    return [base, *(f"{base}.{dotted_name(alias.name)}" for alias in imported.names)]


def _own_package(script: Path, module: str) -> str:
    """What a name of a module says of the script's own package: a dot, `lab.` or `lab.robots.`, or nothing."""
    if module.startswith("."):
        return "."
    if own := own_folder(script, module):
        return f"{own}."
    packages: list[str] = []
    folder = script.resolve().parent
    while (folder / "__init__.py").is_file():
        packages.insert(0, folder.name)
        folder = folder.parent
    first = module.split(".")[0]
    if first not in packages or local_module(script, module) is not None:
        return ""
    return "".join(f"{name}." for name in packages[packages.index(first) :])


def _docstring(module: cst.Module) -> cst.CSTNode | None:
    first = module.body[0] if module.body else None
    return first if first is not None and is_docstring(first) else None


def is_docstring(statement: cst.CSTNode) -> bool:
    expression = statement.body[0] if isinstance(statement, cst.SimpleStatementLine) else None
    return isinstance(expression, cst.Expr) and isinstance(expression.value, cst.SimpleString)


def _after_opening_comments(source: Source) -> int:
    """Past a `#!` line and a coding cookie, which must stay on the first two lines."""
    offset = 0
    while source.text.startswith("#", offset):
        offset = source.next_line(offset)
    return offset


def distributed(tree: Tree, first: int) -> str | None:
    """How the top level names `torch.distributed` before the patch's first line, if it does so without conditions."""
    for statement in tree.module.body[:first]:
        if not isinstance(statement, cst.SimpleStatementLine):
            continue
        for part in statement.body:
            for spelling in _distributed_spellings(part):
                bindings = tree.root.bindings.get(spelling.split(".")[0], [])
                if all(_imports_torch(tree, binding) for binding in bindings):
                    return None if spelling.split(".")[0] in tree.root.deleted else spelling
    return None


def _imports_torch(tree: Tree, binding: Binding) -> bool:
    if not isinstance(binding.node, cst.ImportAlias):
        return False
    imported = tree.parents[binding.node]
    if isinstance(imported, cst.Import):
        name = dotted_name(binding.node.name) or ""
        return name == "torch.distributed" or (binding.node.asname is None and name.split(".")[0] == "torch")
    return bool(_distributed_spellings(imported))


def _distributed_spellings(part: cst.CSTNode) -> list[str]:
    if isinstance(part, cst.Import):
        names = [alias for alias in part.names if dotted_name(alias.name) == "torch.distributed"]
    elif isinstance(part, cst.ImportFrom) and not isinstance(part.names, cst.ImportStar):
        of_torch = part.module is not None and dotted_name(part.module) == "torch" and not part.relative
        names = [alias for alias in part.names if of_torch and dotted_name(alias.name) == "distributed"]
    else:
        names = []
    return [(dotted_name(alias.asname.name) if alias.asname else dotted_name(alias.name)) or "" for alias in names]

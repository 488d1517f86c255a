"""Where an import may stand, and how `torch.distributed` is named."""

from __future__ import annotations

import libcst as cst

from energy_patch.locate.local_modules import local_module
from energy_patch.syntax.layout import point_after
from energy_patch.syntax.nodes import dotted_name
from energy_patch.syntax.places import LinePoint
from energy_patch.syntax.scopes import Binding, Scope
from energy_patch.syntax.source import Source
from energy_patch.syntax.tree import Tree


def import_point(tree: Tree, found: list[tuple[cst.Call, Scope]], first: int) -> tuple[LinePoint, str]:
    """After the top-level import that brought in the loss, else after the last one before the patch's first line.

    And what stands before the name of a folder beside the script, as in the import of the loss: nothing, a dot, or the
    package that the script is a part of.
    """
    top_level = [
        statement
        for statement in tree.module.body[:first]
        if isinstance(statement, cst.SimpleStatementLine)
        and any(isinstance(part, cst.Import | cst.ImportFrom) for part in statement.body)
    ]
    bringing = None
    prefix = ""
    for call, scope in found:
        for binding in scope.resolve((dotted_name(call.func) or "").split(".")[0]):
            if binding.kind != "import":
                continue
            imported = tree.parents[binding.node]
            prefix = prefix or _prefix(tree, binding.node)
            line = tree.parents[imported]
            bringing = line if bringing is None and line in top_level else bringing
    statement = bringing or (top_level[-1] if top_level else _docstring(tree.module))
    source = tree.source
    if statement is None:
        return LinePoint(_after_opening_comments(source), "", 1), prefix
    return point_after(tree, statement), prefix


def _prefix(tree: Tree, alias: cst.CSTNode) -> str:
    """A script of a package, started by `python -m`, finds what lies beside it by the package's name only."""
    imported = tree.parents[alias]
    if isinstance(imported, cst.ImportFrom) and imported.relative:
        return "."
    name = imported.module if isinstance(imported, cst.ImportFrom) else getattr(alias, "name", None)
    module = (dotted_name(name) if name is not None else None) or ""
    packages: list[str] = []
    folder = tree.script.resolve().parent
    while (folder / "__init__.py").is_file():
        packages.insert(0, folder.name)
        folder = folder.parent
    is_beside = local_module(tree.script, module) is not None
    return "".join(f"{name}." for name in packages) if module.split(".")[:1] == packages[:1] and not is_beside else ""


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
                    return spelling
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

"""Parts of a function: its own nodes, and what it returns."""

from __future__ import annotations

import libcst as cst

from energy_patch.analysis.files import Files
from energy_patch.syntax.nodes import called_name

KEEPS_CALL = frozenset({"no_grad", "inference_mode", "enable_grad", "autocast"})


def is_none(node: cst.CSTNode | None) -> bool:
    return isinstance(node, cst.Name) and node.value == "None"


def is_plain(function: cst.FunctionDef) -> bool:
    """Whether calling it is calling what is written: no decorator could change arguments or results."""
    names = [called_name(part.decorator) for part in function.decorators]
    return function.asynchronous is None and KEEPS_CALL.issuperset(names)


def is_target(files: Files, node: cst.CSTNode) -> bool:
    """Whether a name is given a value where it stands."""
    child = node
    for parent in files.ancestors(node):
        if isinstance(parent, cst.AssignTarget | cst.NameItem | cst.Del | cst.Param | cst.AsName):
            return True
        if isinstance(parent, cst.AnnAssign | cst.AugAssign | cst.For | cst.CompFor | cst.NamedExpr):
            return parent.target is child
        if not isinstance(parent, cst.Element | cst.Tuple | cst.List):
            return False
        child = parent
    return False

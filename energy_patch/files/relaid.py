"""Whether a module is one of ours that a formatter went over."""

from __future__ import annotations

import ast
import inspect
from functools import lru_cache

from energy_patch.syntax.source import silent
from energy_patch.syntax.tokens import COMMENT, lex

_DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def is_relaid(raw: bytes, ours: bytes) -> bool:
    """Whether some code is ours in another layout: whoever replaces or removes it takes nothing from its user."""
    try:
        return _said(raw) == _said(ours)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False


@lru_cache(maxsize=128)
def _said(raw: bytes) -> tuple[str, list[str]]:
    """What Python reads, documentation without its indentation, and the comments."""
    text = raw.decode("utf-8-sig")
    with silent():
        tree = ast.parse(text)  # not the one that others are given, since it is changed
    for node in ast.walk(tree):
        if isinstance(node, _DOCUMENTED) and (documentation := ast.get_docstring(node)) is not None:
            node.body[0] = ast.Expr(ast.Constant(inspect.cleandoc(documentation)))
    return ast.dump(tree), [token.text[1:].strip() for token in lex(text) if token.kind == COMMENT]

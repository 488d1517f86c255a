"""What a script holds instead of a call of the loss: the names that nearly match, with their lines."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator, Sequence

from energy_patch.locate.facts import ORIGINAL_LOSS
from energy_patch.strategies.registry import strategies
from energy_patch.syntax.source import Source, parse

SIBLING = re.compile(r"\b(?:energy_\w*infonce\w*|compute_negative_energy)\b")


def near_misses(source: Source, elsewhere: Sequence[str] = ()) -> str:
    """One sentence: the loss is not called, what was seen that comes near, here and elsewhere, and what to do."""
    message = f"{ORIGINAL_LOSS} is not called in this script"
    seen = [*(f"line {line}: {what}" for line, what in sorted(_seen(source).items())), *elsewhere]
    if seen:
        shown = "; ".join(seen[:6]) + (f"; and {len(seen) - 6} more" if len(seen) > 6 else "")
        message += f" ({shown})"
    return f"{message}; only a direct call of an imported or defined {ORIGINAL_LOSS} can be patched"


def renamed(module: Source, script: Source) -> Iterator[tuple[int, str]]:
    """The lines of a module that import the loss by another name, which the script takes from there, and that name."""
    taken: set[str | None] = set()
    for node in ast.walk(parse(script.raw)):
        if isinstance(node, ast.ImportFrom):
            taken |= {alias.name for alias in node.names}
        elif isinstance(node, ast.Attribute):
            taken.add(node.attr)
    for node in ast.walk(parse(module.raw)):
        if isinstance(node, ast.ImportFrom):
            for alias in node.names:
                if alias.name == ORIGINAL_LOSS and alias.asname in taken:
                    yield node.lineno, alias.asname or ""


def _seen(source: Source) -> dict[int, str]:
    seen: dict[int, str] = {}
    for token in _tokens(source.text):
        if token.type == tokenize.COMMENT and re.search(rf"\b{ORIGINAL_LOSS}\s*\(", token.string):
            seen[token.start[0]] = "a call in a comment"
        elif token.type == tokenize.STRING and re.fullmatch(rf"['\"]([\w.]+\.)?{ORIGINAL_LOSS}['\"]", token.string):
            seen[token.start[0]] = "its name in a string, which cannot be followed; call the loss directly"
    try:
        tree = parse(source.raw)
    except (SyntaxError, ValueError, RecursionError):
        return seen  # what was read before the fault is still worth naming
    patched = {strategy.function for strategy in strategies().values()} - {""}
    bound = [*_bound(tree)]
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.names[0].name == "*":
            module = "." * node.level + (node.module or "")
            seen[node.lineno] = f"star import of {module}, which does not show where a name comes from"
        elif isinstance(node, ast.Call):
            name = _last_name(node.func)
            if name == ORIGINAL_LOSS:
                seen[node.lineno] = _call_of_unknown(node.func, bound)
            elif name in patched:
                seen[node.lineno] = f"{name} is already called"
            elif SIBLING.fullmatch(name):
                seen[node.lineno] = f"{name}, another loss"
        elif isinstance(node, ast.expr) and _last_name(node) == ORIGINAL_LOSS and node.lineno not in seen:
            seen[node.lineno] = f"a mention of {ast.unparse(node)} that is no call; call the loss directly"
    return seen


def _call_of_unknown(callee: ast.expr, bound: Sequence[int]) -> str:
    """Why a call by the loss's name is not taken for one of the loss."""
    if isinstance(callee, ast.Attribute):
        owner = ast.unparse(callee.value)
        return f"a call of {owner}.{ORIGINAL_LOSS}: cannot tell what {owner} is; import the loss explicitly"
    if bound:
        return f"a call of what line {bound[0]} gives this name; give that another name"
    return "cannot tell where this name comes from; import it explicitly"


def _bound(tree: ast.Module) -> Iterator[int]:
    """The lines that give the loss's name a value, imports aside."""
    for node in ast.walk(tree):
        match node:
            case ast.arg(arg=name) | ast.Name(id=name, ctx=ast.Store()) | ast.FunctionDef(name=name):
                if name == ORIGINAL_LOSS:
                    yield node.lineno


def _last_name(node: ast.expr) -> str:
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else ""


def _tokens(text: str) -> list[tokenize.TokenInfo]:
    found: list[tokenize.TokenInfo] = []
    try:
        for token in tokenize.generate_tokens(io.StringIO(text).readline):
            found.append(token)
    except (tokenize.TokenError, SyntaxError, ValueError):
        pass  # what was read before the fault is still worth naming
    return found

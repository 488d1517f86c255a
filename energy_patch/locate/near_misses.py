"""What a script holds instead of a call of the loss: the names that nearly match, with their lines."""

from __future__ import annotations

import io
import re
import tokenize
from collections.abc import Sequence

from energy_patch.locate.facts import ORIGINAL_LOSS
from energy_patch.strategies.registry import strategies
from energy_patch.syntax.source import Source

SIBLING = re.compile(r"\b(?:energy_\w*infonce\w*|compute_negative_energy)\b")
STAR_IMPORT = re.compile(r"^\s*from\s+([\w.]+)\s+import\s+\*")


def near_misses(source: Source, elsewhere: Sequence[str] = ()) -> str:
    """One sentence: the loss is not called, what was seen that comes near, here and elsewhere, and what to do."""
    message = f"{ORIGINAL_LOSS} is not called in this script"
    seen = [*(f"line {line}: {what}" for line, what in sorted(_seen(source).items())), *elsewhere]
    if seen:
        shown = "; ".join(seen[:6]) + (f"; and {len(seen) - 6} more" if len(seen) > 6 else "")
        message += f" ({shown})"
    return f"{message}; only a direct call of an imported or defined {ORIGINAL_LOSS} can be patched"


def _seen(source: Source) -> dict[int, str]:
    seen: dict[int, str] = {}
    new_losses = {strategy.function for strategy in strategies().values()}
    for number in range(1, len(source.line_starts) + 1):
        if star := STAR_IMPORT.match(source.line_text(number)):
            seen[number] = f"star import of {star[1]}, whose names cannot be told"
    tokens = list(_tokens(source.text))
    importing = False
    for index, token in enumerate(tokens):
        line = token.start[0]
        if token.type in (tokenize.NEWLINE, tokenize.NL):
            importing = importing and token.type == tokenize.NL
        elif token.type == tokenize.COMMENT:
            if re.search(rf"\b{ORIGINAL_LOSS}\s*\(", token.string):
                seen[line] = "a call in a comment"
        elif token.type == tokenize.STRING:
            if re.fullmatch(rf"['\"]([\w.]+\.)?{ORIGINAL_LOSS}['\"]", token.string):
                seen[line] = "its name in a string"
        elif token.type == tokenize.NAME:
            importing = importing or token.string in ("import", "from")
            following = tokens[index + 1].string if index + 1 < len(tokens) else ""
            if importing or line in seen:
                continue
            if token.string == ORIGINAL_LOSS:
                seen[line] = "a call of a name that means something else here" if following == "(" else "rebound here"
            elif following == "(" and token.string in new_losses:
                seen[line] = f"{token.string} is already called"
            elif following == "(" and SIBLING.fullmatch(token.string):
                seen[line] = f"{token.string}, another loss"
    return seen


def _tokens(text: str) -> list[tokenize.TokenInfo]:
    found: list[tokenize.TokenInfo] = []
    try:
        for token in tokenize.generate_tokens(io.StringIO(text).readline):
            found.append(token)
    except (tokenize.TokenError, SyntaxError, ValueError):
        pass  # what was read before the fault is still worth naming
    return found

"""What must hold before a patch is taken out of an edited script."""

from __future__ import annotations

import ast
import re
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator, Sequence

from energy_patch.record.schema import ScriptEntry
from energy_patch.refusal import Refusal
from energy_patch.rewrite.edits import Edit, apply_edits
from energy_patch.syntax.source import LINE_END, Source, check_compiles, decode_source, parse
from energy_patch.syntax.tokens import identifiers
from energy_patch.unpatch.matching import TokenizedScript
from energy_patch.unpatch.modified import one_line
from energy_patch.unpatch.patterns import make_pattern
from energy_patch.unpatch.regions import FoundRegion
from energy_patch.unpatch.splices import with_values

_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


_UNREADABLE = (SyntaxError, ValueError, RecursionError, MemoryError)


def check_same_meaning(source: Source, script: TokenizedScript, places: list[FoundRegion]) -> None:
    """A region that was reformatted must mean what was written: put the written form there, and compare the trees.

    Raises:
        Refusal: `patch-modified`, where it does not.
    """
    edits: list[Edit] = []
    for place in places:
        first, last = script.tokens[place.match.first], script.tokens[place.match.end - 1]
        edits.append(Edit(first.start, last.end, _written(source, script, place)))
    try:
        same_tree = ast.dump(parse(apply_edits(source.text, edits))) == ast.dump(parse(source.text))
    except _UNREADABLE:
        same_tree = False
    if not same_tree:
        said = "\n".join(
            f"    {source.line_of(script.tokens[place.match.first].start)}: {one_line(place.region.after)}"
            for place in places
        )
        message = (
            "the patch was reformatted so that one of these parts of it does not mean what apply wrote; nothing was "
            f"written. Put them back as apply wrote them:\n{said}"
        )
        raise Refusal("patch-modified", message, line=source.line_of(script.tokens[places[0].match.first].start))


def _written(source: Source, script: TokenizedScript, place: FoundRegion) -> str:
    """The recorded form of a place, with today's values, at today's indentation."""
    pattern = place.pattern
    tokens = pattern.tokens[pattern.anchor :]
    after = place.region.after
    text = with_values(script, place)
    text = text[tokens[0].start : len(text) - (len(after) - tokens[-1].end)]
    old = re.search(r"[ \t]*\Z", after[: tokens[0].start])
    line_start = source.line_start(script.tokens[place.match.first].start)
    new = re.match(r"[ \t]*", source.text[line_start:])
    if old is None or new is None:
        return text
    return re.sub(rf"(?<=[\r\n]){re.escape(old.group())}", new.group().replace("\\", "\\\\"), text)


def _encodes(source: Source, text: str) -> bool:
    try:
        source.encode(text)
    except UnicodeError:
        return False
    return True


def check_result(source: Source, text: str, splices: Sequence[Edit]) -> None:
    """The script without the patch must be Python, in the script's own encoding.

    Raises:
        Refusal: `patch-modified`.
    """
    if not _encodes(source, text):
        message = f"what the patch replaced cannot be written in its encoding ({source.encoding}); save it as UTF-8"
        raise Refusal("patch-modified", message)
    try:
        check_compiles(decode_source(source.path, source.encode(text)))
    except Refusal as refusal:
        if (header := _header_of_patch_only(source, splices)) is not None:
            code = source.line_text(header).strip()
            message = (
                f"line {header} (`{code}`) holds only lines of the patch; put `pass` there, or delete the "
                f"`{code.split()[0].rstrip(':')}`, and run the command again"
            )
            raise Refusal("patch-modified", message, line=header) from None
        line = None if refusal.line is None else line_now(source, text, splices, refusal.line)
        message = (
            f"was edited so that without the patch it {refusal.message.partition(';')[0]}; undo that edit, or take the "
            "patch out by hand"
        )
        raise Refusal("patch-modified", message, line=line) from None


def _header_of_patch_only(source: Source, splices: Sequence[Edit]) -> int | None:
    """The line that begins a block of which nothing is left without the patch."""

    def offset(line: int, column: int) -> int:
        start = source.line_starts[line - 1]
        return start + len(source.text[start:].encode()[:column].decode())

    def is_patch(node: ast.stmt) -> bool:
        start, end = offset(node.lineno, node.col_offset), offset(node.end_lineno or 0, node.end_col_offset or 0)
        return any(splice.start <= start and end <= splice.end and not splice.text for splice in splices)

    for node in ast.walk(parse(source.text)):
        for name in ("body", "orelse", "finalbody"):
            block = getattr(node, name, None)
            if not isinstance(block, list) or not block or not all(map(is_patch, block)):
                continue
            if name == "body":
                return getattr(node, "lineno", None) or getattr(getattr(node, "pattern", None), "lineno", None)
            above = range(block[0].lineno, 0, -1)
            return next((line for line in above if re.match(r"\s*(?:else|finally)\b", source.line_text(line))), None)
    return None


def check_names(source: Source, entry: ScriptEntry, text: str, splices: list[Edit]) -> None:
    """What the patch brought in must not be used by anything that stays, unless the script has its own of it.

    Raises:
        Refusal: `patch-modified`, with the line of the first use.
    """
    suspects = [name for name in entry.names if re.search(rf"\b{re.escape(name)}\b", text)]
    if not suspects:
        return
    counts = Counter(name for name, _ in identifiers(text))
    fields = {wildcard.label for region in entry.edits for wildcard in make_pattern(region).wildcards}
    touched = _touched_lines(text, splices)
    for name in suspects:
        lines = list(_dangling(parse(text), name, touched, member=name in fields))
        if lines and counts[name] > entry.names[name]:
            line = line_now(source, text, splices, lines[0])
            message = (
                f"uses {name}, which the patch brought in, outside the patch: {source.line_text(line).strip()}\n"
                f"Take that out, or define {name} yourself, and run the command again."
            )
            raise Refusal("patch-modified", message, line=line)


def _touched_lines(text: str, splices: list[Edit]) -> list[int]:
    """Lines of the result at which something was taken out."""
    ends = [match.end() for match in LINE_END.finditer(text)]
    lines: list[int] = []
    shift = 0
    for splice in splices:
        lines.append(1 + bisect_right(ends, splice.start + shift))
        shift += len(splice.text) - (splice.end - splice.start)
    return lines


def _dangling(module: ast.Module, name: str, touched: list[int], *, member: bool) -> Iterator[int]:
    """Lines that read a name which nothing in the script provides.

    A function in which the patch stood does not count as providing it: what it binds may come too late.
    """

    waiting: list[ast.AST] = [] if name in {bound for node in module.body for bound in _bound_by(node)} else [module]
    while waiting:
        node = waiting.pop()
        if isinstance(node, _FUNCTIONS) and name in _bound_in(node):
            last = node.end_lineno or node.lineno
            if not any(node.lineno <= line <= last for line in touched):
                continue
        reads = isinstance(node, ast.Name) and node.id == name and isinstance(node.ctx, ast.Load)
        is_member = name in (getattr(node, "attr", None), isinstance(node, ast.keyword) and node.arg)
        if reads or (member and is_member):
            yield getattr(node, "lineno", 1)
        waiting += ast.iter_child_nodes(node)


def _bound_by(node: ast.AST) -> Iterator[str]:
    """Names that one statement defines by an import, a definition or an assignment."""
    if isinstance(node, ast.Import | ast.ImportFrom):
        yield from (alias.asname or alias.name.partition(".")[0] for alias in node.names)
    elif isinstance(node, (*_FUNCTIONS, ast.ClassDef)):
        yield node.name
    elif isinstance(node, ast.Assign | ast.AnnAssign):
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        yield from (target.id for target in targets if isinstance(target, ast.Name))


def _bound_in(function: ast.FunctionDef | ast.AsyncFunctionDef) -> set[str]:
    """A function's parameters and what its body binds."""
    bound = {node.arg for node in ast.walk(function.args) if isinstance(node, ast.arg)}
    return bound | {name for node in ast.walk(function) if node is not function for name in _bound_by(node)}


def line_now(source: Source, text: str, splices: Sequence[Edit], line: int) -> int:
    """The line in the script as it is of a line of the result."""
    starts = [0, *(match.end() for match in LINE_END.finditer(text))]
    offset = starts[min(line, len(starts)) - 1]
    shift = 0
    for splice in splices:
        if splice.start + shift <= offset:
            shift += len(splice.text) - (splice.end - splice.start)
    return source.line_of(min(max(offset - shift, 0), len(source.text)))

"""Take a patch back: exactly where the script is untouched, by its tokens where it was edited since.

By tokens means: each region of the patch must still say what it said. Layout, brackets and commas that a formatter
adds or drops do not count, comments do, and the value of a tunable region may have changed. What the user wrote
elsewhere stays byte for byte.
"""

from __future__ import annotations

import ast
import contextlib
import re
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher

from energy_patch.record.schema import Region, ScriptEntry, sha256
from energy_patch.refusal import Refusal
from energy_patch.rewrite.edits import Edit, apply_edits
from energy_patch.strategies.base import FOLDER_NAME
from energy_patch.syntax.source import LINE_END, Source, check_compiles, decode_source
from energy_patch.syntax.tokens import CLOSERS, COMMENT, ERROR, OPENERS, Token, identifiers, lex, parse, same
from energy_patch.unpatch.regions import Place, Script, core_tokens, find_places, make_pattern

_BLANKS = " \t\f"
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
_UNREADABLE = (SyntaxError, ValueError, RecursionError, MemoryError)


@dataclass(frozen=True)
class Held:
    """A value in the patch: its name, its text now, whose option's value it is, and whether the user changed it."""

    name: str
    value: str
    option: str = ""
    is_tuned: bool = False


@dataclass(frozen=True)
class Undone:
    """The script without the patch; `exact` if these are the original's very bytes.

    `lines` are the lines on which the entry's edits stand now; `splices` are what takes them out of `patched`; `held`
    are the values that the user may tune.
    """

    text: str
    exact: bool
    patched: Source
    lines: tuple[int, ...]
    splices: tuple[Edit, ...]
    held: tuple[Held, ...] = ()

    @property
    def notes(self) -> tuple[str, ...]:
        """A line for each value that the user changed."""
        return tuple(f"{item.name} = {item.value} is your own value" for item in self.held if item.is_tuned)

    def line_now(self, line: int) -> int:
        """The line in the patched script of a line of `text`."""
        return _line_now(self.patched, self.text, self.splices, line)


def undo(source: Source, entry: ScriptEntry) -> Undone:
    """Take a script's patch back and keep all other edits.

    Raises:
        Refusal: `drifted`, where a region of the patch is not as it was written; it lists the lines.
    """
    if sha256(source.raw) == entry.patched:
        return _exactly(source, entry)
    _check_readable(source)
    script = Script(source.text)
    places = _found(source, script, entry)
    splices, rewritten = _splices(script, places)
    if rewritten:
        _check_same_meaning(source, script, rewritten)
    text = apply_edits(source.text, splices)
    _check_result(source, text)
    _check_names(source, entry, text, splices)
    return Undone(
        text,
        sha256(source.encode(text)) == entry.original,
        source,
        tuple(source.line_of(script.tokens[place.match.first].start) for place in places),
        tuple(splices),
        tuple(dict.fromkeys(value for place in places for value in _held(script, place))),
    )


def _exactly(source: Source, entry: ScriptEntry) -> Undone:
    inverse: list[Edit] = []
    shift = 0
    for region in entry.edits:
        start = region.start + shift
        inverse.append(Edit(start, start + len(region.after), region.before))
        shift += len(region.after) - len(region.before)
    there = (source.text[edit.start : edit.end] for edit in inverse)
    if all(text == region.after for text, region in zip(there, entry.edits, strict=True)):
        with contextlib.suppress(ValueError):  # spans outside the text, or text outside the encoding
            text = apply_edits(source.text, inverse)
            if sha256(source.encode(text)) == entry.original:
                return Undone(
                    text, True, source, tuple(region.line for region in entry.edits), tuple(inverse), _as_written(entry)
                )
    message = (
        "does not fit energy_losses/patch.json, so the record was edited by hand; restore it (git checkout, a backup)"
    )
    raise Refusal("drifted", message)


def is_present(source: Source, entry: ScriptEntry) -> bool:
    """Whether every region of the patch can be found in a script that was edited since."""
    script = Script(source.text)
    places, missing, doubtful = find_places(script, entry)
    return not missing and not doubtful and not all(_reads_as_before(script, place) for place in places)


def _reads_as_before(script: Script, place: Place) -> bool:
    """A value that was put back by hand matches its wildcard, but is no patch."""
    before, seen = lex(place.region.before), script.tokens[place.match.first : place.match.end]
    return len(before) == len(seen) and all(same(one, other) for one, other in zip(before, seen, strict=True))


def leaves_traces(source: Source, entry: ScriptEntry) -> bool:
    """Whether the script still has a name from `energy_losses/`; where the patch imported none, the whole patch.

    Other names do not tell: an unpatched version of the script may count its ranks, too.
    """
    tokens = lex(source.text)
    if any(token.kind == ERROR for token in tokens):
        return True  # nobody can tell, and to say "not patched" would be the worse mistake
    imports = [lex(region.after) for region in entry.edits if FOLDER_NAME in region.after]
    names = {token.text for line in imports for token in line if token.text in entry.names}
    if not names:
        return is_present(source, entry)
    counts = Counter(token.text for token in tokens if token.word)
    return any(counts[name] > entry.names[name] for name in names)


# Looking


def _check_readable(source: Source) -> None:
    try:
        check_compiles(source)
    except Refusal as refusal:
        message = f"was edited since it was patched, and now it {refusal.message}"
        raise Refusal("drifted", message, line=refusal.line) from None


def _found(source: Source, script: Script, entry: ScriptEntry) -> list[Place]:
    places, missing, doubtful = find_places(script, entry)
    if missing or doubtful:
        raise _drifted(source, script, entry, places, missing, doubtful)
    return places


def _drifted(
    source: Source,
    script: Script,
    entry: ScriptEntry,
    places: list[Place],
    missing: list[Region],
    doubtful: list[Region],
) -> Refusal:
    """Name what changed, and print the lines that would have to go."""
    said = ["was edited since, and not all of the patch is as it was written; nothing was changed."]
    if missing:
        said.append("Changed or missing:")
        said += [f"    (line {region.line} when patched) {_one_line(region.after)}" for region in missing]
    if doubtful:
        said.append("In more places than the patch wrote it to:")
        said += [f"    (line {region.line} when patched) {_one_line(region.after)}" for region in doubtful]
    said.append("Put these back as they were and run revert again, or take the patch out by hand. Its lines:")
    lines: dict[int, str] = {}
    for place in places:
        first, last = script.tokens[place.match.first], script.tokens[place.match.end - 1]
        for number in range(source.line_of(first.start), source.line_of(last.start) + 1):
            lines[number] = f"    {number}: {source.line_text(number).strip()}"
        if place.region.before.strip():
            lines[source.line_of(last.start)] += f"\n        was: {_one_line(place.region.before)}"
    for token in script.tokens:
        number = source.line_of(token.start)
        if token.word and token.text in entry.names and not entry.names[token.text] and number not in lines:
            lines[number] = f"    {number}: {source.line_text(number).strip()}"
    said += [lines[number] for number in sorted(lines)] or ["    (none is left)"]
    return Refusal("drifted", "\n".join(said), line=min(lines, default=None))


def _one_line(text: str) -> str:
    return " ".join(text.split())


# Taking back


def _splices(script: Script, places: list[Place]) -> tuple[list[Edit], list[Place]]:
    """What to replace, and the places that are not written as they were, so that their meaning must be compared."""
    splices: list[Edit] = []
    rewritten: list[Place] = []
    for place in places:
        exact = _exact_splice(script, place)
        if exact is not None:
            splices.append(exact)
        else:
            rewritten.append(place)
            splices += _token_splices(script, place)
    return _joined(splices), rewritten


def _joined(splices: list[Edit]) -> list[Edit]:
    """Removals may share a comma; nothing else may overlap."""
    joined: list[Edit] = []
    for splice in sorted(splices):
        last = joined[-1] if joined else None
        if last is None or splice.start >= last.end:
            joined.append(splice)
        elif not last.text and not splice.text:
            joined[-1] = Edit(last.start, max(last.end, splice.end), "")
        else:
            raise Refusal("drifted", "was reformatted so that places of the patch overlap; take it out by hand")
    return joined


def _exact_splice(script: Script, place: Place) -> Edit | None:
    """The inverse edit where the text is still what was written, but for converted line ends and a tuned value."""
    region, match, pattern = place.region, place.match, place.pattern
    first = pattern.tokens[pattern.anchor].start
    written = _with_values(script, place)
    if written != region.after and region.before:
        return None
    for newline in (None, "\n", "\r\n", "\r"):
        after, before, lead = (_converted(text, newline) for text in (written, region.before, written[:first]))
        start = script.tokens[match.first].start - len(lead)
        if start >= 0 and script.text.startswith(after, start) and _at_line_ends(script.text, region, start, after):
            return Edit(start, start + len(after), before)
    return None


def _converted(text: str, newline: str | None) -> str:
    return text if newline is None else LINE_END.sub(newline, text)


def _with_values(script: Script, place: Place) -> str:
    """The recorded text with the values that stand in the script now."""
    pattern, after = place.pattern, place.region.after
    edits = [
        Edit(pattern.tokens[wildcard.first].start, pattern.tokens[wildcard.end - 1].end, _slice(script, *value))
        for wildcard, value in zip(pattern.wildcards, place.match.values, strict=True)
    ]
    return apply_edits(after, edits)


def _slice(script: Script, first: int, end: int) -> str:
    return script.text[script.tokens[first].start : script.tokens[end - 1].end]


def _at_line_ends(text: str, region: Region, start: int, after: str) -> bool:
    """Text that was whole lines must still be whole lines, and no CR LF may be cut in two."""
    if any(text[cut - 1 : cut + 1] == "\r\n" for cut in (start, start + len(after)) if cut):
        return False
    at_start = not region.above or region.above[-1] in "\r\n"
    if at_start and start and text[start - 1] not in "\r\n":
        return False
    end = start + len(after)
    at_end = after[:1] in "\r\n" and (not region.below or region.below[0] in "\r\n")
    return not at_end or end == len(text) or text[end] in "\r\n"


def _token_splices(script: Script, place: Place) -> Iterator[Edit]:
    """Only the tokens that the patch changed are replaced, so a formatter's layout of the others stays."""
    pattern, match, before = place.pattern, place.match, place.region.before
    after_tokens = list(pattern.tokens[pattern.anchor :])
    before_tokens = core_tokens(place.region)[1]
    matcher = SequenceMatcher(None, [t.text for t in after_tokens], [t.text for t in before_tokens], autojunk=False)
    for tag, i1, i2, j1, j2 in matcher.get_opcodes():
        first, last = i1 + pattern.anchor, i2 + pattern.anchor
        if tag == "equal":
            continue
        if tag == "insert":
            yield _insertion(script, place, first, before, before_tokens, j1, j2)
            continue
        inside = sorted(match.aligned[index] for index in range(first, last) if index in match.aligned)
        if not inside:
            continue
        start, end = _balanced(script, place, inside[0], inside[-1] + 1)
        if tag == "replace":
            text = before[before_tokens[j1].start : before_tokens[j2 - 1].end]
            yield Edit(script.tokens[start].start, script.tokens[end - 1].end, text)
        else:
            leads = pattern.lead and first == pattern.anchor
            yield _removal(script, start, end, leads)


def _insertion(script: Script, place: Place, at: int, before: str, tokens: list[Token], first: int, end: int) -> Edit:
    """Text that the patch had dropped, put back behind the token that it followed."""
    aligned = place.match.aligned
    behind = [index for index in range(place.pattern.anchor, at) if index in aligned]
    text_end = tokens[end - 1].end
    if behind:
        offset = script.tokens[aligned[behind[-1]]].end
        return Edit(offset, offset, before[tokens[first - 1].end if first else tokens[first].start : text_end])
    offset = script.tokens[place.match.first].start
    until = tokens[end].start if end < len(tokens) else text_end
    return Edit(offset, offset, before[tokens[first].start : until])


def _balanced(script: Script, place: Place, start: int, end: int) -> tuple[int, int]:
    """Take in the other half of each bracket that only the script has; a comment of the user's must not go with it."""
    for index in sorted(place.match.extra):
        partner = script.partners[index]
        if start <= index < end:
            start, end = min(start, partner), max(end, partner + 1)
    ours = set(place.match.aligned.values())
    for index in range(start, end):
        token = script.tokens[index]
        if token.kind == COMMENT and index not in ours:
            line = len(LINE_END.findall(script.text, 0, token.start)) + 1
            message = f"has a comment of yours within the patch, which would be lost: {token.text}"
            raise Refusal("drifted", message, line=line)
    return start, end


def _removal(script: Script, start: int, end: int, leads: bool) -> Edit:
    """Remove tokens with the separator that came with them, and with their lines if nothing else is on these."""
    tokens = script.tokens
    left = start - 1 if start else None
    right = end if end < len(tokens) else None
    before = tokens[left].text if left is not None else ""
    after = tokens[right].text if right is not None else ""
    previous = _text_before(script, start)
    ours_before = after == before and after in (",", ";") and leads
    last_of_line = before == ";" and after != ";" and tokens[start - 1].line == tokens[start].line
    last_of_list = before == "," and after in CLOSERS and (leads or _on_one_line(script, start - 1, start))
    if ours_before or last_of_line or last_of_list:
        start -= 1
    elif after == ";" or (after == "," and (previous == "," or previous in OPENERS)):
        end += 1
    return _blank_out(script.text, tokens[start].start, tokens[end - 1].end)


def _text_before(script: Script, index: int) -> str:
    rest = (token.text for token in reversed(script.tokens[:index]) if token.kind != COMMENT)
    return next(rest, "")


def _on_one_line(script: Script, first: int, last: int) -> bool:
    return LINE_END.search(script.text, script.tokens[first].end, script.tokens[last].start) is None


def _blank_out(text: str, start: int, end: int) -> Edit:
    """A span without the blanks that held it apart; whole lines where it fills them."""
    line_start = max(text.rfind("\n", 0, start), text.rfind("\r", 0, start)) + 1
    match = LINE_END.search(text, end)
    line_end, next_line = match.span() if match else (len(text), len(text))
    before, behind = text[line_start:start], text[end:line_end]
    if not before.strip() and not behind.strip():
        return Edit(line_start, next_line, "")
    if not behind.strip():
        return Edit(line_start + len(before.rstrip(_BLANKS)), line_end, "")
    if not before.strip() or before[-1] in " \t([{":
        end += len(behind) - len(behind.lstrip(_BLANKS))
    return Edit(start, end, "")


# Proving


def _check_same_meaning(source: Source, script: Script, places: list[Place]) -> None:
    """A region that was reformatted must mean what was written: put the written form there, and compare the trees."""
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
            f"    {source.line_of(script.tokens[place.match.first].start)}: {_one_line(place.region.after)}"
            for place in places
        )
        message = f"was edited since, and one of these places of the patch does not mean what it did:\n{said}"
        raise Refusal("drifted", message, line=source.line_of(script.tokens[places[0].match.first].start))


def _written(source: Source, script: Script, place: Place) -> str:
    """The recorded form of a place, with today's values, at today's indentation."""
    pattern = place.pattern
    tokens = pattern.tokens[pattern.anchor :]
    after = place.region.after
    text = _with_values(script, place)
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


def _check_result(source: Source, text: str) -> None:
    if not _encodes(source, text):
        message = f"what the patch replaced cannot be written in its encoding ({source.encoding}); save it as UTF-8"
        raise Refusal("drifted", message)
    try:
        check_compiles(decode_source(source.path, source.encode(text)))
    except Refusal as refusal:
        message = f"was edited so that it would not be valid Python without the patch: {refusal.message}"
        raise Refusal("drifted", message, line=refusal.line) from None


def _check_names(source: Source, entry: ScriptEntry, text: str, splices: list[Edit]) -> None:
    """What the patch brought in must not be used by anything that stays, unless the script has its own of it."""
    suspects = [name for name in entry.names if re.search(rf"\b{re.escape(name)}\b", text)]
    if not suspects:
        return
    counts = Counter(name for name, _ in identifiers(text))
    fields = {wildcard.label for region in entry.edits for wildcard in make_pattern(region).wildcards}
    touched = _touched_lines(text, splices)
    for name in suspects:
        lines = list(_dangling(parse(text), name, touched, member=name in fields))
        if lines and counts[name] > entry.names[name]:
            line = _line_now(source, text, splices, lines[0])
            message = (
                f"uses {name}, which the patch brought in, outside the patch: {source.line_text(line).strip()}\n"
                "Take that out, or bring in the name yourself, and run revert again; nothing was changed."
            )
            raise Refusal("drifted", message, line=line)


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


def _line_now(source: Source, text: str, splices: Sequence[Edit], line: int) -> int:
    """The line in the script as it is of a line of the result."""
    starts = [0, *(match.end() for match in LINE_END.finditer(text))]
    offset = starts[min(line, len(starts)) - 1]
    shift = 0
    for splice in splices:
        if splice.start + shift <= offset:
            shift += len(splice.text) - (splice.end - splice.start)
    return source.line_of(min(max(offset - shift, 0), len(source.text)))


def _as_written(entry: ScriptEntry) -> tuple[Held, ...]:
    """The values that a patch holds as it was written."""
    found: list[Held] = []
    for region in entry.edits:
        if not region.holds:
            continue
        pattern = make_pattern(region)
        for wildcard in pattern.wildcards:
            first, last = pattern.tokens[wildcard.first], pattern.tokens[wildcard.end - 1]
            text = region.after[first.start : last.end]
            found.append(Held(wildcard.label, text, region.holds.get(wildcard.label, "")))
    return tuple(found)


def _held(script: Script, place: Place) -> Iterator[Held]:
    """The values of a place as they are now."""
    for wildcard, (first, end) in zip(place.pattern.wildcards, place.match.values, strict=True):
        written = place.pattern.tokens[wildcard.first : wildcard.end]
        seen = script.tokens[first:end]
        alike = len(written) == len(seen) and all(same(one, other) for one, other in zip(written, seen, strict=True))
        option = place.region.holds.get(wildcard.label, "")
        yield Held(wildcard.label, _slice(script, first, end), option, not alike)

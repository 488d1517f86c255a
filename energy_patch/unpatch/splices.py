"""Taking the places of a patch out of a script: what was written back by what stood before."""

from __future__ import annotations

import re
from collections.abc import Iterator
from difflib import SequenceMatcher

from energy_patch.record.schema import Region
from energy_patch.refusal import Refusal
from energy_patch.rewrite.edits import Edit, apply_edits
from energy_patch.syntax.source import LINE_END
from energy_patch.syntax.tokens import CLOSERS, COMMENT, OPENERS, Token
from energy_patch.unpatch.matching import TokenizedScript
from energy_patch.unpatch.patterns import core_tokens
from energy_patch.unpatch.regions import FoundRegion

_BLANKS = " \t\f"
_DIRECTIVE = re.compile(r"#\s*(?:noqa\b|type:\s*ignore\b|(?:pylint|pyright|isort|ruff|fmt):)[^#]*")


def splices_of(script: TokenizedScript, places: list[FoundRegion]) -> tuple[list[Edit], list[FoundRegion]]:
    """What to replace, and the places that are not written as they were, so that their meaning must be compared.

    Raises:
        Refusal: `patch-modified`, where a comment of the user's would be lost, or places overlap.
    """
    splices: list[Edit] = []
    rewritten: list[FoundRegion] = []
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
            message = "was reformatted so that parts of the patch overlap; take the patch out by hand"
            raise Refusal("patch-modified", message)
    return joined


def _exact_splice(script: TokenizedScript, place: FoundRegion) -> Edit | None:
    """The inverse edit where the text is still what was written, but for converted line ends and a tuned value."""
    region, match, pattern = place.region, place.match, place.pattern
    first = pattern.tokens[pattern.anchor].start
    written = with_values(script, place)
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


def with_values(script: TokenizedScript, place: FoundRegion) -> str:
    """The recorded text with the values that stand in the script now."""
    pattern, after = place.pattern, place.region.after
    edits = [
        Edit(pattern.tokens[wildcard.first].start, pattern.tokens[wildcard.end - 1].end, text_of(script, *value))
        for wildcard, value in zip(pattern.wildcards, place.match.values, strict=True)
    ]
    return apply_edits(after, edits)


def text_of(script: TokenizedScript, first: int, end: int) -> str:
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


def _token_splices(script: TokenizedScript, place: FoundRegion) -> Iterator[Edit]:
    """Only the tokens that the patch changed are replaced, so a formatter's layout of the others stays."""
    pattern, match, before = place.pattern, place.match, place.region.before
    after_tokens = list(pattern.tokens[pattern.anchor :])
    before_tokens = core_tokens(place.region)[1]
    for tag, i1, i2, j1, j2 in _opcodes([t.text for t in after_tokens], [t.text for t in before_tokens]):
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


def _opcodes(after: list[str], before: list[str]) -> Iterator[tuple[str, int, int, int, int]]:
    """As `SequenceMatcher` has them, but what both end with stays together: a call's last bracket is its own."""
    tail = 0
    while tail < min(len(after), len(before)) and after[-1 - tail] == before[-1 - tail]:
        tail += 1
    end, old_end = len(after) - tail, len(before) - tail
    yield from SequenceMatcher(None, after[:end], before[:old_end], autojunk=False).get_opcodes()
    if tail:
        yield "equal", end, len(after), old_end, len(before)


def _insertion(
    script: TokenizedScript, place: FoundRegion, at: int, before: str, tokens: list[Token], first: int, end: int
) -> Edit:
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


def _balanced(script: TokenizedScript, place: FoundRegion, start: int, end: int) -> tuple[int, int]:
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
            message = (
                f"has a comment of yours within the patch, which would be lost: {token.text}\n"
                "Move it to a line of its own above, and run the command again."
            )
            raise Refusal("patch-modified", message, line=line)
    return start, end


def _removal(script: TokenizedScript, start: int, end: int, leads: bool) -> Edit:
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


def _text_before(script: TokenizedScript, index: int) -> str:
    rest = (token.text for token in reversed(script.tokens[:index]) if token.kind != COMMENT)
    return next(rest, "")


def _on_one_line(script: TokenizedScript, first: int, last: int) -> bool:
    return LINE_END.search(script.text, script.tokens[first].end, script.tokens[last].start) is None


def _blank_out(text: str, start: int, end: int) -> Edit:
    """A span without the blanks that held it apart; whole lines where it fills them, but for a word to a linter."""
    line_start = max(text.rfind("\n", 0, start), text.rfind("\r", 0, start)) + 1
    match = LINE_END.search(text, end)
    line_end, next_line = match.span() if match else (len(text), len(text))
    before, behind = text[line_start:start], text[end:line_end]
    if not before.strip() and (not behind.strip() or _DIRECTIVE.fullmatch(behind.strip())):
        return Edit(line_start, next_line, "")
    if not behind.strip():
        return Edit(line_start + len(before.rstrip(_BLANKS)), line_end, "")
    if not before.strip() or before[-1] in " \t([{":
        end += len(behind) - len(behind.lstrip(_BLANKS))
    return Edit(start, end, "")

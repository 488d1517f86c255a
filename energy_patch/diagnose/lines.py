"""Lines of a patched script: what was found in the text without the patch stands elsewhere now."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from difflib import SequenceMatcher
from pathlib import Path

from energy_patch.diagnose.check import Finding
from energy_patch.diagnose.study import Place
from energy_patch.syntax.source import LINE_END, Source


class Lines:
    """Where a line of one text is in another that differs in a few places."""

    def __init__(self, before: Source, after: Source) -> None:
        texts = LINE_END.split(before.text), LINE_END.split(after.text)
        self._blocks = SequenceMatcher(None, *texts, autojunk=False).get_opcodes()

    def now(self, line: int) -> int:
        for tag, i1, i2, j1, j2 in self._blocks:
            if i1 < line <= i2:
                return j1 + line - i1 if tag == "equal" else max(j2 - (i2 - line), j1 + 1)  # the patch inserts before
        return line


class AllLines:
    """The same for the script and the modules that are patched with it, by their path below the script's folder."""

    def __init__(self, script: Path, lines: Mapping[str, Lines]) -> None:
        self._script = script
        self._lines = lines

    def place(self, place: Place) -> Place:
        lines = self._lines.get(place.path or self._script.resolve().name)
        return replace(place, line=lines.now(place.line)) if lines is not None else place

    def places(self, places: Iterable[Place]) -> tuple[Place, ...]:
        return tuple(self.place(item) for item in places)

    def finding(self, finding: Finding) -> Finding:
        path = finding.path.resolve().relative_to(self._script.resolve().parent).as_posix()
        line = self.place(Place(finding.line, "", path)).line
        return replace(finding, line=line, places=self.places(finding.places))

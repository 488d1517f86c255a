"""Cases of several files in one: `# ==== NAME ====` begins a file, `# ==== NAME, after ====` what becomes of it.

The first line has the options of `apply`, which is given `train.py`. Where it refuses, the second line says how, as in
`tests/refusals`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

FOLDERS = Path(__file__).parents[1] / "folders"
SCRIPT = "train.py"
_HEADING = re.compile(r"^# ==== (?P<name>[\w./]+)(?P<after>, after)? ====\n", re.MULTILINE)


@dataclass(frozen=True)
class FolderCase:
    """`head` is what stands above the first file; `after` holds only the files that change."""

    head: str
    before: dict[str, str]
    after: dict[str, str]

    @property
    def all_after(self) -> dict[str, str]:
        return {**self.before, **self.after}

    @property
    def text(self) -> str:
        text = self.head
        for name, content in self.before.items():
            text += f"# ==== {name} ====\n{content}"
        for name, content in self.after.items():
            text += f"# ==== {name}, after ====\n{content}"
        return text


def folder_cases(pattern: str) -> list[Path]:
    return sorted(FOLDERS.glob(pattern))


def read_case(path: Path) -> FolderCase:
    text = path.read_text("utf-8")
    headings = list(_HEADING.finditer(text))
    before: dict[str, str] = {}
    after: dict[str, str] = {}
    for heading, end in zip(headings, [*(item.start() for item in headings[1:]), len(text)], strict=True):
        (after if heading["after"] else before)[heading["name"]] = text[heading.end() : end]
    return FolderCase(text[: headings[0].start()], before, after)


def write_files(folder: Path, files: dict[str, str]) -> None:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, "utf-8")

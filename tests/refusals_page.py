"""The page of all refusals, from where the code refuses: `python -m tests.refusals_page > docs/refusals.md`."""

from __future__ import annotations

import ast
import importlib
import re
import shlex
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import get_args

import energy_patch
from energy_patch.refusal import Reason
from tests.conftest import run_command

PACKAGE = Path(energy_patch.__file__).parent
CASES = Path(__file__).with_name("refusals")
NAMES = {"Refusal", "NotCalled"}
GAP = "..."  # what a message says of the script at hand
OPENING = """\
# Refusals

Where `energy-patch` cannot do what it is asked for, it writes nothing, exits with 1, and says in one message which file
and line, what was seen and what to do. These are all its messages, by the reason that `--json` gives; `...` stands for
names and lines of your script. The examples are whole scripts, and tests.

This page is made from the code by `python -m tests.refusals_page > docs/refusals.md`.
"""
MEANINGS: dict[Reason, str] = {
    "not-found": "What the patch needs is not in the script.",
    "ambiguous": "A name could mean more than one thing.",
    "unsupported": "The script does something that no patch could follow, or that would hang.",
    "conflict": "What was asked for contradicts what is there already.",
    "patch-modified": "The lines of the patch, or the files that belong to it, are not as they were written.",
    "unreadable": "A file is not there, is not Python, or cannot be read.",
    "unwritable": "A file could not be written.",
}


@dataclass(frozen=True)
class Site:
    """A place in the code that refuses: its reason, and its message with gaps."""

    reason: Reason
    message: str

    def says(self, message: str) -> bool:
        """Whether a message may come from here."""
        parts = [re.escape(part) for part in self.message.split(GAP)]
        return re.fullmatch(".*".join(parts), message, re.DOTALL) is not None

    @property
    def words(self) -> int:
        return len(self.message.replace(GAP, ""))


@dataclass(frozen=True)
class Example:
    """A script that is refused: its name, the line, and the whole message."""

    name: str
    reason: Reason
    code: str
    message: str


@cache  # the whole package is parsed for it
def sites() -> tuple[Site, ...]:
    """Every place in the package that refuses, the demo's aside."""
    found = {
        Site(reason, message)
        for path in sorted(PACKAGE.rglob("*.py"))
        if "demo" not in path.relative_to(PACKAGE).parts
        for reason, message in _sites_of(path)
    }
    return tuple(sorted(found, key=lambda site: (get_args(Reason).index(site.reason), site.message)))


def _sites_of(path: Path) -> Iterator[tuple[Reason, str]]:
    name = ".".join([PACKAGE.name, *path.relative_to(PACKAGE).with_suffix("").parts])
    for function in ast.walk(ast.parse(path.read_text("utf-8"))):
        if not isinstance(function, ast.FunctionDef):
            continue
        for node in ast.walk(function):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in NAMES:
                reason, message, *_ = node.args
                if isinstance(reason, ast.Constant):
                    yield reason.value, re.sub(r"(?:\.\.\.){2,}", GAP, _text(message, function, name))


def _text(node: ast.expr, function: ast.FunctionDef, module: str) -> str:
    """A message as far as the code says it."""
    match node:
        case ast.Constant(value=str(text)):
            return text
        case ast.JoinedStr(values=values):
            return "".join(_text(value, function, module) for value in values)
        case ast.FormattedValue(value=ast.Name(id=name)) | ast.Name(id=name) if name.isupper():
            return str(getattr(importlib.import_module(module), name))
        case ast.Name(id=name):
            assigned = [
                each
                for each in ast.walk(function)
                if isinstance(each, ast.Assign)
                and each.lineno < node.lineno
                and any(isinstance(target, ast.Name) and target.id == name for target in each.targets)
            ]
            last = max(assigned, key=lambda each: each.lineno, default=None)
            return _text(last.value, function, module) if last is not None else GAP
    return GAP


def examples() -> tuple[Example, ...]:
    """The scripts of `tests/refusals`, each refused anew."""
    return tuple(_example(path) for path in sorted(CASES.glob("*.py")))


@cache
def _example(path: Path) -> Example:
    text = path.read_text("utf-8")
    options = shlex.split(text.partition("\n")[0].removeprefix("# energy-patch apply"))
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder, "train.py")
        script.write_text(text, "utf-8")
        (answer,) = run_command("apply", *options, "--json", script).json["scripts"]
    code = text.splitlines()[answer["line"] - 1].strip() if answer["line"] else ""
    return Example(path.name, answer["reason"], code, answer["message"])


@cache
def page() -> str:
    """The whole page, in Markdown."""
    parts = [OPENING]
    shown = [(example, _origin(example)) for example in examples()]
    for reason in get_args(Reason):
        parts.append(f"## {reason}\n\n{MEANINGS[reason]}\n")
        for site in (each for each in sites() if each.reason == reason):
            parts.append(f"- {_escaped(site.message) if site.words else 'What was seen, in words of its own.'}")
            parts += [_shown(example) for example, origin in shown if origin == site]
        parts.append("")
    return "\n".join(parts).rstrip() + "\n"


def _origin(example: Example) -> Site | None:
    """The place that refuses an example: of those that may say its message, the one with the most words."""
    may = [site for site in sites() if site.reason == example.reason and site.says(example.message)]
    return max(may, key=lambda site: site.words, default=None)


def _shown(example: Example) -> str:
    code = f"`{example.code}` " if example.code else ""
    return f"  - {code}([example](../tests/refusals/{example.name})): {_escaped(example.message)}"


def _escaped(message: str) -> str:
    return re.sub(r"([*<>|])", r"\\\1", message).replace("\n", " ")


if __name__ == "__main__":
    print(page(), end="")

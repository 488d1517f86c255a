"""What a finding declares about itself: the text, the documentation and the tests are built from it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import libcst as cst

from energy_patch.diagnose.study import Place, Study

MARK = "# here"


@dataclass(frozen=True)
class Found:
    """One place where a check speaks; `cure` only where the check's own does not fit.

    `options` are those of `energy-patch apply` that cure it in a script which is patched already.
    """

    node: cst.CSTNode
    title: str
    why: str
    places: tuple[Place, ...] = ()
    cure: str = ""
    options: str = ""


@dataclass(frozen=True)
class Finding:
    """Something read in the text: what it is, why it matters, and what cures it."""

    name: str
    path: Path
    line: int
    title: str
    why: str
    cure: str
    places: tuple[Place, ...] = ()
    options: str = ""


@dataclass(frozen=True)
class Example:
    """A short script, and the modules beside it, in which a check speaks (on the line marked `# here`) or is silent.

    `others` are all findings of other checks in it: they prove that the script was understood.
    """

    what: str
    script: str
    others: tuple[str, ...] = ()
    files: dict[str, str] = field(default_factory=dict)
    gpus: int = 8


@dataclass(frozen=True)
class Check:
    """One finding: how it is found, what it is called, what cures it, and where it speaks and where it does not.

    `weight` orders findings, the heaviest first: above 50 it hinders training, below it is worth knowing. `doubt` says
    why a script cannot be told to have it or not, where that is so.
    """

    name: str
    weight: int
    title: str
    why: str
    cure: str
    find: Callable[[Study], Iterator[Found]]
    speaks: tuple[Example, ...]
    silent: tuple[Example, ...]
    doubt: Callable[[Study], Place | None] = lambda study: None


def edited(text: str, *edits: tuple[str, str]) -> str:
    """An example made from another.

    Raises:
        ValueError: an edit changes nothing.
    """
    for old, new in edits:
        if old == new or old not in text:
            raise ValueError(f"changes nothing: {old!r}")
        text = text.replace(old, new)
    return text

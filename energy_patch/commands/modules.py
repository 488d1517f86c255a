"""Which files of a folder are programs, and which are modules of others."""

from __future__ import annotations

import re
from pathlib import Path

from energy_patch.commands.scripts import Scripts
from energy_patch.locate.facts import ORIGINAL_LOSS
from energy_patch.refusal import Refusal
from energy_patch.syntax.source import Source, read_source

MAIN_GUARD = re.compile(r"^if\s+__name__\s*==\s*['\"]__main__['\"]", re.MULTILINE)
_DEFINITION = re.compile(rf"^def\s+{ORIGINAL_LOSS}\s*\(", re.MULTILINE)


def is_program(source: Source) -> bool:
    """Whether a file says what to do where it is started."""
    return MAIN_GUARD.search(source.text) is not None


def modules_of_others(named: Scripts) -> dict[Path, str]:
    """The files of a folder, or of a check, that are modules of others and no programs, each with what to say of it.

    A module that another file imports is patched with the scripts that use its calls, and not by itself; so is the one
    that defines the loss. There are none where no file holds the loss.
    """
    if not (named.are_many or named.is_lenient):
        return {}
    from energy_patch.locate.reached import imported_files

    sources = {path.resolve(): source for path in named.paths if (source := _readable(path)) is not None}
    if not any(named.word in source.text for source in sources.values()):
        return {}
    modules = {path for path, source in sources.items() if not is_program(source)}
    found = {path: "defines the loss" for path in modules if _DEFINITION.search(sources[path].text)}
    for path, source in reversed(sources.items()):  # the first one that imports a module is named
        found |= dict.fromkeys(modules & imported_files(source) - {path}, f"is a module of {source.path}")
    return {path: f"{what}; its calls are patched with the scripts that use them" for path, what in found.items()}


def _readable(path: Path) -> Source | None:
    try:
        return read_source(path)
    except Refusal:
        return None

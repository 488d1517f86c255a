"""One script under study, as the checks see it: its program, the loss's calls, and the energy model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import libcst as cst

from energy_patch.analysis.aliases import Aliases
from energy_patch.analysis.calls import CallGraph
from energy_patch.analysis.constants import Constants
from energy_patch.analysis.files import CANNOT_BE_READ, ScopedCall
from energy_patch.analysis.program import Program
from energy_patch.analysis.settings import Settings
from energy_patch.diagnose.energy_model import Model, energy_model
from energy_patch.diagnose.loss_uses import LossUses
from energy_patch.locate.facts import ORIGINAL_LOSS
from energy_patch.locate.reached import follow_imports
from energy_patch.strategies.base import NO_SYNC, Strategy, Value
from energy_patch.syntax.source import Source, read_source


@dataclass(frozen=True)
class Place:
    """A line (0: none is meant) and what stands there; `path`, from the script's folder, if it is another file's."""

    line: int
    what: str
    path: str | None = None

    @property
    def where(self) -> str:
        """The line, or the file where no line is meant; empty for the whole script."""
        line = f"line {self.line}" if self.line else ""
        return ", ".join(part for part in (self.path, line) if part)


@dataclass(frozen=True)
class Patch:
    """The patch that a script bears: what it takes care of is no finding any more.

    `options` are the values in the script. One that is not intact takes care of nothing for sure.
    """

    strategy: Strategy | None
    options: dict[str, Value] = field(default_factory=dict)
    is_intact: bool = True

    @property
    def replaces_loss(self) -> bool:
        return self.strategy is None or bool(self.strategy.function)

    @property
    def synchronizes(self) -> bool:
        return self.is_intact and NO_SYNC not in self.options


def same_line(path: Path, line: int) -> int:
    """Of a script that is looked at as it is."""
    return line


@dataclass(frozen=True)
class Subject:
    """What is looked at: a script without its patch, and the number of its ranks.

    `read` gives the text of another file without its patch; `line_now` tells on which line of today a line stands.
    """

    source: Source
    gpus: int
    patch: Patch | None = None
    read: Callable[[Path], Source] = read_source
    line_now: Callable[[Path, int], int] = same_line


class Study:
    """What the checks share.

    Raises:
        Refusal: `unreadable`, where the script cannot be parsed.
    """

    def __init__(self, subject: Subject) -> None:
        self.path = subject.source.path
        self.gpus = subject.gpus
        self.batch_size = 1
        self.patch = subject.patch
        self._line_now = subject.line_now
        self._lines: dict[tuple[Path, int], int] = {}
        self.program = Program(subject.source, subject.read)
        following = follow_imports(subject.source, subject.read)
        for module in following.modules:
            if ORIGINAL_LOSS in module.source.text:
                self.program.reach(module.source.path)
        self._unread = following.unread
        self.graph = CallGraph(self.program)
        self.aliases = Aliases(self.graph)
        self.settings = Settings(self.program)
        self.constants = Constants(self.aliases, self.settings)
        self.loss_uses = LossUses(self.aliases, following.used)

    @property
    def loss(self) -> list[ScopedCall]:
        """The calls of the loss that `apply` would replace; none where they are replaced, and changed since."""
        is_changed = self.patch is not None and not self.patch.is_intact
        return [] if is_changed else self.loss_uses.calls

    @cached_property
    def model(self) -> Model | None:
        """The energy model; None where there is none in sight."""
        return energy_model(self.aliases, self.loss_uses)

    @property
    def model_classes(self) -> list[cst.ClassDef]:
        """The classes in sight that the energy model is made of."""
        return self.model.classes if self.model is not None else []

    @property
    def left_out(self) -> dict[Path, str]:
        """Files that the script imports and that were not read, and why."""
        return {**dict.fromkeys(self._unread, CANNOT_BE_READ), **self.program.left_out}

    # --- where things are -------------------------------------------------------------------------------------

    def line(self, node: cst.CSTNode) -> int:
        """The line of today on which a node stands."""
        key = self.path_of(node), self.program.line(node)
        if key not in self._lines:
            self._lines[key] = self._line_now(*key)
        return self._lines[key]

    def path_of(self, node: cst.CSTNode) -> Path:
        """The file of a node; the script's own as it was named."""
        tree = self.program.tree(node)
        return self.path if tree is self.program.script else tree.source.path

    def place(self, node: cst.CSTNode, what: str) -> Place:
        path = self.path_of(node)
        return Place(self.line(node), what, None if path == self.path else self.name_of(path))

    def name_of(self, path: Path) -> str:
        """A file's path from the script's folder."""
        return path.relative_to(self.path.resolve().parent).as_posix()

    def name_around(self, node: cst.CSTNode) -> str:
        function = self.program.function_around(node)
        return function.name.value if function is not None else "the module"

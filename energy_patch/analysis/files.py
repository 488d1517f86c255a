"""A script and the local modules that it reaches, parsed on demand, and where their nodes stand."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import libcst as cst

from energy_patch.refusal import Refusal
from energy_patch.strategies.base import FOLDER_NAME
from energy_patch.syntax.scopes import Scope
from energy_patch.syntax.source import Source, read_source
from energy_patch.syntax.tree import Tree

MAX_MODULES = 40  # each takes a parse; what lies behind them is said to be out of sight
CANNOT_BE_READ = "cannot be read as Python, so it was left out"
Definition = cst.FunctionDef | cst.ClassDef
ScopedCall = tuple[cst.Call, Scope]


class Files:
    """All parsed files of one script; `calls`, `names` and `attributes` grow while more of them are reached.

    `read` gives the text of another file. The modules that energy-patch brings are not looked into; `left_out` are the
    others that could not be parsed, or came after too many.

    Raises:
        Refusal: `unreadable`, where the script itself cannot be parsed.
    """

    def __init__(self, source: Source, read: Callable[[Path], Source] = read_source) -> None:
        self.path = source.path
        self._read_source = read
        self.trees: list[Tree] = []
        self.calls: list[ScopedCall] = []
        self.names: list[tuple[cst.Name, Scope]] = []
        self.attributes: list[tuple[cst.Attribute, Scope]] = []
        self.parents: dict[cst.CSTNode, cst.CSTNode] = {}
        self.scopes: dict[cst.CSTNode, Scope] = {}
        self.left_out: dict[Path, str] = {}
        self._by_root: dict[Scope, Tree] = {}
        self._by_path: dict[Path, Tree | None] = {}
        self.script = self._add(Tree(source))
        self._by_path[source.path.resolve()] = self.script

    def _add(self, tree: Tree) -> Tree:
        self.trees.append(tree)
        self._by_root[tree.root] = tree
        self.calls += tree.calls
        self.names += tree.names
        self.attributes += tree.attributes
        self.parents.update(tree.parents)
        self.scopes.update(tree.scopes)
        return tree

    def reach(self, path: Path) -> Tree | None:
        """Parse one more file; None where it stays out of sight."""
        if path not in self._by_path:
            self._by_path[path] = None
            if path.parent.name == FOLDER_NAME:
                return None
            if len(self.trees) >= MAX_MODULES:
                self.left_out[path] = f"not looked into: only {MAX_MODULES} files are"
                return None
            try:
                self._by_path[path] = self._add(Tree(self._read_source(path), script=self.path))
            except (Refusal, RecursionError):
                self.left_out[path] = CANNOT_BE_READ
        return self._by_path[path]

    def tree(self, node: cst.CSTNode) -> Tree:
        """The file that a node belongs to."""
        scope = self.scopes[node]
        while scope.parent is not None:
            scope = scope.parent
        return self._by_root[scope]

    def line(self, node: cst.CSTNode) -> int:
        return self.tree(node).line(node)

    def text(self, node: cst.CSTNode) -> str:
        return self.tree(node).text(node)

    def seen(self, node: cst.CSTNode) -> str:
        """The line of source that a node begins on."""
        tree = self.tree(node)
        return tree.source.line_text(tree.line(node)).strip()

    def ancestors(self, node: cst.CSTNode) -> Iterator[cst.CSTNode]:
        while (parent := self.parents.get(node)) is not None:
            yield parent
            node = parent

    def function_around(self, node: cst.CSTNode) -> cst.FunctionDef | None:
        return next((item for item in self.ancestors(node) if isinstance(item, cst.FunctionDef)), None)

    def inside(self, definition: Definition) -> Scope:
        """The scope of a function's or a class's own names."""
        return self.scopes[definition.body]

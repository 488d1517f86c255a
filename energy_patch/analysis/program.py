"""A script and the local modules that it reaches, parsed on demand, and what a name means across them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import libcst as cst

from energy_patch.locate.local_modules import local_module
from energy_patch.refusal import Refusal
from energy_patch.strategies.base import FOLDER_NAME
from energy_patch.syntax.nodes import all_parameters, children, dotted_name, last_name
from energy_patch.syntax.scopes import Binding, Scope
from energy_patch.syntax.source import Source, read_source
from energy_patch.syntax.tree import Tree

MAX_MODULES = 40  # each takes a parse; what lies behind them is said to be out of sight
Definition = cst.FunctionDef | cst.ClassDef
Use = tuple[cst.Call, Scope]


class Program:
    """All parsed files of one script; `calls`, `names` and `attributes` grow while more of them are reached.

    `read` gives the text of another file. The modules that energy-patch brings are not looked into.

    Raises:
        Refusal: `unreadable`, where the script itself cannot be parsed.
    """

    def __init__(self, source: Source, read: Callable[[Path], Source] = read_source) -> None:
        self.path = source.path
        self._read_source = read
        self.trees: list[Tree] = []
        self.calls: list[Use] = []
        self.names: list[tuple[cst.Name, Scope]] = []
        self.attributes: list[tuple[cst.Attribute, Scope]] = []
        self.parents: dict[cst.CSTNode, cst.CSTNode] = {}
        self.scopes: dict[cst.CSTNode, Scope] = {}
        self._asked: set[object] = set()  # questions that are being answered
        self._found: dict[tuple[str, int, Scope | None], Path | None] = {}
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
            if len(self.trees) < MAX_MODULES and path.parent.name != FOLDER_NAME:
                with contextlib.suppress(Refusal, RecursionError):
                    self._by_path[path] = self._add(Tree(self._read_source(path), script=self.path))
        return self._by_path[path]

    # --- where things are -------------------------------------------------------------------------------------

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

    # --- what names mean --------------------------------------------------------------------------------------

    def meaning(self, node: cst.CSTNode, scope: Scope) -> Definition | Tree | None:
        """The one function, class or module that an expression can mean, wherever it is defined; else None."""
        if isinstance(node, cst.Name):
            bindings = scope.resolve(node.value)
            return self._bound(bindings[0], scope) if len(bindings) == 1 else self._starred(node.value, scope, bindings)
        if not isinstance(node, cst.Attribute):
            return None
        holder = self.meaning(node.value, scope) or self.class_of(node.value, scope)
        name = node.attr.value
        if isinstance(holder, cst.ClassDef):
            return self.method(holder, name)
        if isinstance(holder, Tree):
            return self._member(holder, name) or self._imported(node, scope)
        return self._imported(node, scope)

    def _starred(self, name: str, scope: Scope, bindings: list[Binding]) -> Definition | Tree | None:
        """A name that nothing binds, from a star import whose file shows it."""
        while scope.parent is not None:
            scope = scope.parent
        for statement in self._by_root[scope].module.body if not bindings else ():
            for part in statement.body if isinstance(statement, cst.SimpleStatementLine) else ():
                if isinstance(part, cst.ImportFrom) and isinstance(part.names, cst.ImportStar):
                    base = dotted_name(part.module) if part.module else ""
                    tree = self._find(base or "", len(part.relative), scope)
                    if tree is not None and (found := self._member(tree, name)) is not None:
                        return found
        return None

    def _bound(self, binding: Binding, scope: Scope) -> Definition | Tree | None:
        if isinstance(binding.node, cst.FunctionDef | cst.ClassDef):
            return binding.node
        if binding.node in self._asked:
            return None  # two modules that import a name from each other, two names given to each other
        self._asked.add(binding.node)
        found: Definition | Tree | None = None
        if isinstance(binding.node, cst.ImportAlias):
            found = self._alias(binding.node, scope)
        elif binding.kind == "assign" and isinstance(binding.value, cst.Name | cst.Attribute):
            found = self.meaning(binding.value, self.scopes.get(binding.node, scope))
        self._asked.discard(binding.node)
        return found

    def _alias(self, alias: cst.ImportAlias, scope: Scope) -> Definition | Tree | None:
        statement = self.parents[alias]
        name = dotted_name(alias.name) or ""
        if isinstance(statement, cst.ImportFrom):
            base = dotted_name(statement.module) if statement.module else ""
            level = len(statement.relative)
            tree = self._find(base or "", level, scope)
            found = self._member(tree, name) if tree is not None else None
            return found or self._find(f"{base}.{name}" if base else name, level, scope)
        return self._find(name if alias.asname else name.split(".")[0], 0, scope)

    def _imported(self, node: cst.Attribute, scope: Scope) -> Definition | Tree | None:
        """`a.b.c` after `import a.b`, where `a` has no file of its own."""
        name = dotted_name(node) or ""
        bindings = scope.resolve(name.split(".")[0])
        if len(bindings) != 1 or not isinstance(bindings[0].node, cst.ImportAlias):
            return None
        if isinstance(self.parents[bindings[0].node], cst.ImportFrom) or bindings[0].node.asname:
            return None
        base, _, last = name.rpartition(".")
        holder = self._find(base, 0, scope)
        return self._find(name, 0, scope) or (self._member(holder, last) if holder is not None else None)

    def _find(self, module: str, level: int, scope: Scope) -> Tree | None:
        while scope.parent is not None:
            scope = scope.parent
        key = (module, level, scope if level else None)
        if key not in self._found:
            importer = self._by_root[scope].source.path
            self._found[key] = local_module(self.path, module, level, importer=importer)
        path = self._found[key]
        return self.reach(path) if path is not None else None

    def _member(self, tree: Tree, name: str) -> Definition | Tree | None:
        bindings = tree.root.bindings.get(name, [])
        return self._bound(bindings[-1], tree.root) if bindings else None

    def constant(self, node: cst.Name, scope: Scope) -> cst.BaseExpression | None:
        """What an imported name is assigned, where its file does so once."""
        for binding in scope.resolve(node.value):
            statement = self.parents.get(binding.node)
            if isinstance(binding.node, cst.ImportAlias) and isinstance(statement, cst.ImportFrom):
                base = dotted_name(statement.module) if statement.module else ""
                tree = self._find(base or "", len(statement.relative), scope)
                found = tree.root.bindings.get(dotted_name(binding.node.name) or "", []) if tree is not None else []
                return found[0].value if len(found) == 1 else None
        return None

    # --- classes ----------------------------------------------------------------------------------------------

    def method(self, owner: cst.ClassDef, name: str) -> cst.FunctionDef | None:
        """A class's method, its own or of the nearest base class that is in sight."""
        for definition in (owner, *self.bases(owner)):
            for binding in reversed(self.inside(definition).bindings.get(name, [])):
                if isinstance(binding.node, cst.FunctionDef):
                    return binding.node
        return None

    def bases(self, owner: cst.ClassDef) -> list[cst.ClassDef]:
        """The classes in sight that a class is derived from, the nearest first."""
        found = [owner]
        for definition in found:
            for argument in definition.bases:
                base = self.meaning(argument.value, self.scopes[definition])
                if isinstance(base, cst.ClassDef) and base not in found:
                    found.append(base)
        return found[1:]

    def bases_out_of_sight(self, owner: cst.ClassDef) -> Iterator[cst.BaseExpression]:
        for definition in (owner, *self.bases(owner)):
            for argument in definition.bases:
                if self.meaning(argument.value, self.scopes[definition]) is None:
                    yield argument.value

    def class_of(self, node: cst.CSTNode, scope: Scope) -> cst.ClassDef | None:
        """The class that an expression is surely an instance of: `self`, or a name that only its calls are given to."""
        if isinstance(node, cst.Call):
            made = self.meaning(node.func, scope)
            return made if isinstance(made, cst.ClassDef) else None
        if not isinstance(node, cst.Name):
            return None
        owner = scope.owner(node.value)
        if owner is None:
            return None
        if self.first_parameter(owner) == node.value and owner.parent is not None:
            holder = owner.parent.node
            return holder if isinstance(holder, cst.ClassDef) else None
        if (owner, node.value) in self._asked:
            return None  # x = x.to(device)
        self._asked.add((owner, node.value))
        classes = {
            self.class_of(binding.value, owner) if isinstance(binding.value, cst.Call) else None
            for binding in owner.bindings[node.value]
        }
        self._asked.discard((owner, node.value))
        return classes.pop() if len(classes) == 1 else None

    def first_parameter(self, scope: Scope) -> str | None:
        """What a method calls its instance; None in any other function."""
        node = scope.node
        if not isinstance(node, cst.FunctionDef) or scope.parent is None or not scope.parent.is_class:
            return None
        if {last_name(item.decorator) for item in node.decorators} & {"staticmethod", "classmethod"}:
            return None
        parameters = all_parameters(node.params)
        return parameters[0].name.value if parameters else None


def own_nodes(function: cst.FunctionDef) -> Iterator[cst.CSTNode]:
    """The nodes of a function's own body, functions and classes in it left out."""
    waiting: list[cst.CSTNode] = [function.body]
    while waiting:
        node = waiting.pop()
        yield node
        inner = [item for item in children(node) if not isinstance(item, Definition | cst.Lambda)]
        waiting += reversed(inner)


def returns_of(function: cst.FunctionDef) -> list[cst.Return]:
    return [node for node in own_nodes(function) if isinstance(node, cst.Return)]


def is_none(node: cst.CSTNode | None) -> bool:
    return isinstance(node, cst.Name) and node.value == "None"

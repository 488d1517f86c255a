"""What a name means in the files of a script: the function, class or module, wherever it is defined."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import libcst as cst

from energy_patch.analysis.files import Definition, Files
from energy_patch.locate.local_modules import local_module
from energy_patch.syntax.nodes import all_parameters, dotted_name, last_name
from energy_patch.syntax.scopes import Binding, Scope
from energy_patch.syntax.source import Source, read_source
from energy_patch.syntax.tree import Tree


class Program(Files):
    """The files of one script, and what names mean across them.

    Raises:
        Refusal: `unreadable`, where the script itself cannot be parsed.
    """

    def __init__(self, source: Source, read: Callable[[Path], Source] = read_source) -> None:
        super().__init__(source, read)
        self._asked: set[object] = set()  # questions that are being answered
        self._found: dict[tuple[str, int, Scope | None], Path | None] = {}

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

    def imported(self, binding: Binding, scope: Scope) -> tuple[Tree, str] | None:
        """The file in sight and the name there that `from file import name` binds."""
        statement = self.parents.get(binding.node)
        if not isinstance(binding.node, cst.ImportAlias) or not isinstance(statement, cst.ImportFrom):
            return None
        base = dotted_name(statement.module) if statement.module else ""
        tree = self._find(base or "", len(statement.relative), scope)
        return (tree, dotted_name(binding.node.name) or "") if tree is not None else None

    def constant(self, node: cst.Name, scope: Scope) -> cst.BaseExpression | None:
        """What an imported name is assigned, where its file does so once."""
        for binding in scope.resolve(node.value):
            if (source := self.imported(binding, scope)) is not None:
                found = source[0].root.bindings.get(source[1], [])
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
        if first_parameter(owner) == node.value and owner.parent is not None:
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


def first_parameter(scope: Scope) -> str | None:
    """What a method calls its instance; None in any other function."""
    node = scope.node
    if not isinstance(node, cst.FunctionDef) or scope.parent is None or not scope.parent.is_class:
        return None
    if {last_name(item.decorator) for item in node.decorators} & {"staticmethod", "classmethod"}:
        return None
    parameters = all_parameters(node.params)
    return parameters[0].name.value if parameters else None


def bases_out_of_sight(program: Program, owner: cst.ClassDef) -> Iterator[cst.BaseExpression]:
    for definition in (owner, *program.bases(owner)):
        for argument in definition.bases:
            if program.meaning(argument.value, program.scopes[definition]) is None:
                yield argument.value

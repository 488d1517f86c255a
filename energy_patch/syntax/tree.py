"""A parsed script: its concrete syntax tree, exact offsets into the original text, and lexical scopes.

LibCST does not print every byte that it reads, so a neutralised copy is parsed: line ends become LF, form feeds
become blanks or go. Offsets are looked up by line and column, and only on lines that LibCST prints as they are.
"""

from __future__ import annotations

import gc
import re
import sys
from collections.abc import Callable, Iterator, MutableMapping
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from functools import cache, cached_property
from itertools import zip_longest
from pathlib import Path
from typing import Any, Literal

import libcst as cst
from libcst.metadata import CodeRange, PositionProvider
from libcst.metadata.position_provider import PositionProvidingCodegenState

from energy_patch.refusal import Refusal
from energy_patch.syntax.source import LINE_END, Source, check_compiles, parse

RECURSION_LIMIT = 6000  # a sum of a thousand terms is a tree a thousand deep
INDENT_WITH_FORM_FEED = re.compile(r"[ \t\f]*\f")
LAYOUT_FIELDS = (
    "whitespace",
    "lines",
    "header",
    "footer",
    "indent",
    "newline",
    "lpar",
    "rpar",
    "semicolon",
    "comma",
)

BINDING = (
    *(cst.Assign, cst.AnnAssign, cst.AugAssign, cst.NamedExpr, cst.For, cst.CompFor, cst.AsName),
    *(cst.Global, cst.Nonlocal, cst.MatchAs, cst.MatchStar, cst.MatchMapping),
)
BindingKind = Literal["import", "assign", "augment", "parameter", "function", "class", "loop", "other"]
Comprehension = (cst.ListComp, cst.SetComp, cst.DictComp, cst.GeneratorExp)


@dataclass(frozen=True)
class Binding:
    """One place that gives a name its value; `value` is the bound expression where there is one."""

    kind: BindingKind
    node: cst.CSTNode
    value: cst.BaseExpression | None = None


@dataclass(eq=False)
class Scope:
    """A lexical scope, its bindings in source order, and the names that it declares global or nonlocal."""

    node: cst.CSTNode
    parent: Scope | None
    bindings: dict[str, list[Binding]] = field(default_factory=dict)
    declared_outer: dict[str, Literal["global", "nonlocal"]] = field(default_factory=dict)

    @property
    def is_class(self) -> bool:
        return isinstance(self.node, cst.ClassDef)

    def bind(self, name: str, binding: Binding) -> None:
        self.bindings.setdefault(name, []).append(binding)

    def owner(self, name: str) -> Scope | None:
        """The scope that `name` means from here, by Python's rules; None for builtins and unbound names."""
        scope: Scope | None = self
        while scope is not None:
            if scope.declared_outer.get(name) == "global":
                while scope.parent is not None:
                    scope = scope.parent
                return scope if name in scope.bindings else None
            hidden = scope.is_class and scope is not self
            if name in scope.bindings and name not in scope.declared_outer and not hidden:
                return scope
            scope = scope.parent
        return None

    def resolve(self, name: str) -> list[Binding]:
        owner = self.owner(name)
        return owner.bindings[name] if owner else []

    def function(self) -> Scope:
        """The nearest scope that holds statements: a function's or the module's."""
        scope = self
        while scope.parent and not isinstance(scope.node, cst.FunctionDef | cst.Module):
            scope = scope.parent
        return scope

    def enclosing_class(self) -> Scope | None:
        scope: Scope | None = self
        while scope is not None and not scope.is_class:
            scope = scope.parent
        return scope


@contextmanager
def deep_trees() -> Iterator[None]:
    """Room for trees of many thousand nodes, some of them hundreds deep.

    Raises:
        Refusal: `unreadable`, where it is not enough.
    """
    limit, collects = sys.getrecursionlimit(), gc.isenabled()
    sys.setrecursionlimit(max(limit, RECURSION_LIMIT))
    gc.disable()  # the nodes are all alive: looking for garbage costs a sixth of the time
    try:
        yield
    except RecursionError:
        message = "an expression or a chain of `elif` is nested too deeply to be followed; break it up and run again"
        raise Refusal("unreadable", message) from None
    finally:
        sys.setrecursionlimit(limit)
        if collects:
            gc.enable()


class Tree:
    """The syntax tree of one file with parents, scopes and offsets; `script` is the one whose folder is imported from.

    Raises:
        Refusal: `unreadable`, if the file is not valid Python.
    """

    def __init__(self, source: Source, *, is_checked: bool = False, script: Path | None = None) -> None:
        if not is_checked:
            check_compiles(source)
        self.source = source
        self.script = script or source.path
        self._copy_lines, self._removed = _neutralised(source)
        try:
            module = cst.parse_module("\n".join(self._copy_lines))
        except cst.ParserSyntaxError as error:
            message = f"cannot be parsed ({error.message}); mend the syntax first"
            raise Refusal("unreadable", message, line=error.raw_line) from None
        self.module = module
        # LibCST prints what it parsed to tell where nodes stand. That takes as long as parsing, so it is done for one
        # top-level statement at a time, when a node in it is asked for.
        self._provider = PositionProvider()
        self._positions: MutableMapping[cst.CSTNode, CodeRange] = self._provider._computed  # type: ignore[assignment]
        self._inexact_lines: set[int] = set()
        self.parents: dict[cst.CSTNode, cst.CSTNode] = {}
        self.scopes: dict[cst.CSTNode, Scope] = {}
        self.calls: list[tuple[cst.Call, Scope]] = []
        self.names: list[tuple[cst.Name, Scope]] = []
        self.attributes: list[tuple[cst.Attribute, Scope]] = []
        self.root = Scope(module, None)
        self.all_scopes: list[Scope] = [self.root]
        walker = _Walker(self)
        walker.walk(module, self.root)
        walker.move_declared()

    @cached_property
    def _first_lines(self) -> dict[cst.CSTNode, int]:
        """The line of each top-level statement's first token, as Python's own parser counts them."""
        parsed = iter(parse(self.source).body)
        lines: dict[cst.CSTNode, int] = {}
        for statement in self.module.body:
            first = next(parsed)
            lines[statement] = min([first.lineno, *(item.lineno for item in getattr(first, "decorator_list", ()))])
            if isinstance(statement, cst.SimpleStatementLine):
                for _ in statement.body[1:]:
                    next(parsed)
        return lines

    def _position(self, node: cst.CSTNode) -> CodeRange:
        position = self._positions.get(node)
        if position is None:
            path = [node, *self.ancestors(node)]
            # The walk does not enter every node: where one hangs is then not known, and all are printed.
            for statement in path[-2:-1] if path[-1] is self.module else self.module.body:
                self._print(statement)
            position = self._positions[node]
        return position

    def _print(self, statement: cst.CSTNode) -> None:
        """Have LibCST print one top-level statement: where its nodes stand, and which of its lines come out changed."""
        state = PositionProvidingCodegenState(
            default_indent=self.module.default_indent,
            default_newline=self.module.default_newline,
            provider=self._provider,
            line=self._first_lines[statement] - len(getattr(statement, "leading_lines", ())),
        )
        first = state.line
        statement._codegen(state)
        printed = "".join(state.tokens).split("\n")[:-1]
        read = self._copy_lines[first - 1 : first - 1 + len(printed)]
        self._inexact_lines |= {
            number for number, (line, old) in enumerate(zip_longest(printed, read), start=first) if line != old
        }

    def first_line(self, statement: cst.CSTNode) -> int:
        """The line on which a top-level statement starts; cheaper than `line`."""
        return self._first_lines[statement]

    def span(self, node: cst.CSTNode) -> tuple[int, int]:
        """Start and end offset of a node in the original text, without surrounding layout or parentheses."""
        position = self._position(node)
        return self._offset(position.start.line, position.start.column), self._offset(
            position.end.line, position.end.column
        )

    def _offset(self, line: int, column: int) -> int:
        if line in self._inexact_lines:
            message = "this line is laid out in a way that cannot be edited exactly; reformat it and run again"
            raise Refusal("unsupported", message, line=line)
        return self.source.line_starts[line - 1] + self._removed.get(line, 0) + column

    def text(self, node: cst.CSTNode) -> str:
        start, end = self.span(node)
        return self.source.text[start:end]

    def line(self, node: cst.CSTNode) -> int:
        """The 1-based line on which a node starts."""
        return self._position(node).start.line

    def last_line(self, node: cst.CSTNode) -> int:
        return self._position(node).end.line

    def ancestors(self, node: cst.CSTNode) -> Iterator[cst.CSTNode]:
        """The node's parent, that one's parent, and so on up to the module."""
        while (parent := self.parents.get(node)) is not None:
            yield parent
            node = parent


def last_name(node: cst.CSTNode) -> str:
    """`c` of `a.b.c`, also behind a call: what a callee is called."""
    if isinstance(node, cst.Attribute):
        return node.attr.value
    return node.value if isinstance(node, cst.Name) else ""


def dotted_name(node: cst.CSTNode) -> str | None:
    """`a.b.c` for a chain of names and attributes, else None."""
    if isinstance(node, cst.Name):
        return node.value
    if isinstance(node, cst.Attribute) and (base := dotted_name(node.value)) is not None:
        return f"{base}.{node.attr.value}"
    return None


def descendants(node: cst.CSTNode) -> Iterator[cst.CSTNode]:
    """The node and all below it, layout left out, in source order."""
    waiting = [node]
    while waiting:
        node = waiting.pop()
        yield node
        waiting += reversed([*children(node)])


def _neutralised(source: Source) -> tuple[list[str], dict[int, int]]:
    lines: list[str] = []
    removed: dict[int, int] = {}
    for number, line in enumerate(LINE_END.split(source.text), start=1):
        if "\f" in line:
            # A form feed in the indentation sets Python's column back to 0, so what stands before it goes.
            if match := INDENT_WITH_FORM_FEED.match(line):
                removed[number] = match.end()
                line = line[match.end() :]
            line = line.replace("\f", " ")
        lines.append(line)
    return lines, removed


@cache
def _child_fields(kind: type[cst.CSTNode]) -> tuple[str, ...]:
    names = (item.name for item in fields(kind))
    return tuple(name for name in names if not any(layout in name for layout in LAYOUT_FIELDS))


def children(node: cst.CSTNode) -> Iterator[cst.CSTNode]:
    """The nodes just below a node, layout left out, in source order."""
    for name in _child_fields(type(node)):
        value = getattr(node, name)
        if isinstance(value, cst.CSTNode):
            yield value
        elif isinstance(value, (list, tuple)):
            for item in value:
                if isinstance(item, cst.CSTNode):
                    yield item


class _Walker:
    """One pass over the tree that notes parents, scopes, bindings, calls and names."""

    def __init__(self, tree: Tree) -> None:
        self.tree = tree
        # By type, since a script has tens of thousands of nodes and this is looked up for each.
        self.special: dict[type, Callable[[Any, Scope], None]] = {
            cst.FunctionDef: self._definition,
            cst.ClassDef: self._definition,
            cst.Lambda: self._lambda,
            **dict.fromkeys(Comprehension, self._comprehension),
            cst.Import: self._import,
            cst.ImportFrom: self._import,
            cst.Attribute: self._attribute,
            cst.Arg: self._argument,
        }
        self.binding: dict[type, Callable[[Any, Scope], None]] = dict.fromkeys(BINDING, self._bindings)

    def walk(self, node: cst.CSTNode, scope: Scope) -> None:
        tree = self.tree
        tree.scopes[node] = scope
        kind = type(node)
        if kind is cst.Name:
            tree.names.append((node, scope))  # type: ignore[arg-type]
            return
        if special := self.special.get(kind):
            special(node, scope)
            return
        if kind is cst.Call:
            tree.calls.append((node, scope))  # type: ignore[arg-type]
        elif binding := self.binding.get(kind):
            binding(node, scope)
        for child in children(node):
            tree.parents[child] = node
            self.walk(child, scope)

    def _lambda(self, node: cst.Lambda, scope: Scope) -> None:
        inner = self._scope(node, scope)
        self._parameters(node.params, node, scope, inner)
        self._child(node.body, node, inner)

    def _comprehension(self, node: cst.CSTNode, scope: Scope) -> None:
        inner = self._scope(node, scope)
        for child in children(node):
            self._child(child, node, inner)

    def _attribute(self, node: cst.Attribute, scope: Scope) -> None:
        self.tree.attributes.append((node, scope))
        self._child(node.value, node, scope)

    def _argument(self, node: cst.Arg, scope: Scope) -> None:
        self._child(node.value, node, scope)

    def _scope(self, node: cst.CSTNode, parent: Scope) -> Scope:
        scope = Scope(node, parent)
        self.tree.all_scopes.append(scope)
        return scope

    def _child(self, child: cst.CSTNode, parent: cst.CSTNode, scope: Scope) -> None:
        self.tree.parents[child] = parent
        self.walk(child, scope)

    def _definition(self, node: cst.FunctionDef | cst.ClassDef, scope: Scope) -> None:
        inner = self._scope(node, scope)
        kind: BindingKind = "class" if isinstance(node, cst.ClassDef) else "function"
        scope.bind(node.name.value, Binding(kind, node))
        self.tree.parents[node.name] = node
        for decorator in node.decorators:
            self._child(decorator, node, scope)
        if isinstance(node, cst.FunctionDef):
            self._parameters(node.params, node, scope, inner)
            if node.returns:
                self._child(node.returns, node, scope)
        else:
            for argument in [*node.bases, *node.keywords]:
                self._child(argument, node, scope)
        self._child(node.body, node, inner)

    def _parameters(self, parameters: cst.Parameters, owner: cst.CSTNode, outer: Scope, inner: Scope) -> None:
        self.tree.parents[parameters] = owner
        self.tree.scopes[parameters] = outer
        for parameter in all_parameters(parameters):
            self.tree.parents[parameter] = parameters
            self.tree.scopes[parameter] = outer
            inner.bind(parameter.name.value, Binding("parameter", parameter, parameter.default))
            for part in (parameter.annotation, parameter.default):
                if part is not None:
                    self._child(part, parameter, outer)

    def _import(self, node: cst.Import | cst.ImportFrom, scope: Scope) -> None:
        if isinstance(node.names, cst.ImportStar):
            return
        for alias in node.names:
            self.tree.parents[alias] = node
            bound = alias.asname.name if alias.asname else alias.name
            name = dotted_name(bound) or ""
            scope.bind(name if alias.asname else name.split(".")[0], Binding("import", alias))

    def _bindings(self, node: cst.CSTNode, scope: Scope) -> None:
        match node:
            case cst.Assign():
                for target in node.targets:
                    self._target(target.target, "assign", node, node.value, scope)
            case cst.AnnAssign(value=cst.BaseExpression()):
                self._target(node.target, "assign", node, node.value, scope)
            case cst.AugAssign():
                self._target(node.target, "augment", node, node.value, scope)
            case cst.NamedExpr():
                self._target(node.target, "assign", node, node.value, self._statement_scope(scope))
            case cst.For():
                self._target(node.target, "loop", node, node.iter, scope)
            case cst.CompFor():
                self._target(node.target, "loop", node, node.iter, scope)
            case cst.AsName():
                self._target(node.name, "other", node, None, scope)
            case cst.Global() | cst.Nonlocal():
                self._declare_outer(node, scope)
            case cst.MatchAs(name=cst.Name()) | cst.MatchStar(name=cst.Name()):
                self._target(node.name, "other", node, None, scope)
            case cst.MatchMapping(rest=cst.Name()):
                self._target(node.rest, "other", node, None, scope)

    def _declare_outer(self, node: cst.Global | cst.Nonlocal, scope: Scope) -> None:
        kind: Literal["global", "nonlocal"] = "global" if isinstance(node, cst.Global) else "nonlocal"
        scope.declared_outer.update((item.name.value, kind) for item in node.names)

    def move_declared(self) -> None:
        """Give the bindings of names declared global or nonlocal to the scope that owns them."""
        for scope in self.tree.all_scopes:
            for name, kind in scope.declared_outer.items():
                if scope is self.tree.root:
                    continue
                owner: Scope | None = self.tree.root
                if kind == "nonlocal":
                    owner = scope.parent
                    while owner is not None and (owner.is_class or name not in owner.bindings):
                        owner = owner.parent
                for binding in scope.bindings.pop(name, []):
                    (owner or self.tree.root).bind(name, binding)

    def _statement_scope(self, scope: Scope) -> Scope:
        while isinstance(scope.node, Comprehension) and scope.parent:
            scope = scope.parent
        return scope

    def _target(
        self,
        target: cst.CSTNode | None,
        kind: BindingKind,
        node: cst.CSTNode,
        value: cst.BaseExpression | None,
        scope: Scope,
    ) -> None:
        if isinstance(target, cst.Name):
            scope.bind(target.value, Binding(kind, node, value))
        elif isinstance(target, cst.Tuple | cst.List):
            for element in target.elements:
                # The value of one element of an unpacked tuple is not known: the whole expression stands for it.
                self._target(element.value, kind, node, value, scope)


def all_parameters(parameters: cst.Parameters) -> list[cst.Param]:
    """Every parameter in order: positional-only, plain, `*args`, keyword-only, `**kwargs`."""
    star = [parameters.star_arg] if isinstance(parameters.star_arg, cst.Param) else []
    last = [parameters.star_kwarg] if parameters.star_kwarg else []
    return [*parameters.posonly_params, *parameters.params, *star, *parameters.kwonly_params, *last]

"""One pass over a tree that notes its parents, scopes, bindings, calls, names and attributes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

import libcst as cst

from energy_patch.syntax.nodes import all_parameters, children, dotted_name
from energy_patch.syntax.scopes import Binding, BindingKind, Comprehension, Scope

BINDING = (
    *(cst.Assign, cst.AnnAssign, cst.AugAssign, cst.NamedExpr, cst.For, cst.CompFor, cst.AsName),
    *(cst.Global, cst.Nonlocal, cst.Del, cst.MatchAs, cst.MatchStar, cst.MatchMapping),
)


@dataclass
class Walk:
    """What one pass over a tree notes: parents, scopes, calls, names and attributes, each with the scope around it."""

    root: Scope
    parents: dict[cst.CSTNode, cst.CSTNode] = field(default_factory=dict)
    scopes: dict[cst.CSTNode, Scope] = field(default_factory=dict)
    calls: list[tuple[cst.Call, Scope]] = field(default_factory=list)
    names: list[tuple[cst.Name, Scope]] = field(default_factory=list)
    attributes: list[tuple[cst.Attribute, Scope]] = field(default_factory=list)
    all_scopes: list[Scope] = field(default_factory=list)
    annotations: list[tuple[cst.AnnAssign, Scope]] = field(default_factory=list)


def walk(module: cst.Module) -> Walk:
    """Walk a module once."""
    root = Scope(module, None)
    found = Walk(root, all_scopes=[root])
    _Walker(found).walk(module, root)
    _bind_annotated(found)
    _move_declared(found)
    return found


class _Walker:
    """One pass over a tree that fills a `Walk`."""

    def __init__(self, found: Walk) -> None:
        self.found = found
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
        found = self.found
        found.scopes[node] = scope
        kind = type(node)
        if kind is cst.Name:
            found.names.append((node, scope))  # type: ignore[arg-type]
            return
        if special := self.special.get(kind):
            special(node, scope)
            return
        if kind is cst.Call:
            found.calls.append((node, scope))  # type: ignore[arg-type]
        elif binding := self.binding.get(kind):
            binding(node, scope)
        for child in children(node):
            found.parents[child] = node
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
        self.found.attributes.append((node, scope))
        self._child(node.value, node, scope)

    def _argument(self, node: cst.Arg, scope: Scope) -> None:
        self._child(node.value, node, scope)

    def _scope(self, node: cst.CSTNode, parent: Scope) -> Scope:
        scope = Scope(node, parent)
        self.found.all_scopes.append(scope)
        return scope

    def _child(self, child: cst.CSTNode, parent: cst.CSTNode, scope: Scope) -> None:
        self.found.parents[child] = parent
        self.walk(child, scope)

    def _definition(self, node: cst.FunctionDef | cst.ClassDef, scope: Scope) -> None:
        inner = self._scope(node, scope)
        kind: BindingKind = "class" if isinstance(node, cst.ClassDef) else "function"
        scope.bind(node.name.value, Binding(kind, node))
        self.found.parents[node.name] = node
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
        self.found.parents[parameters] = owner
        self.found.scopes[parameters] = outer
        for parameter in all_parameters(parameters):
            self.found.parents[parameter] = parameters
            self.found.scopes[parameter] = outer
            inner.bind(parameter.name.value, Binding("parameter", parameter, parameter.default))
            for part in (parameter.annotation, parameter.default):
                if part is not None:
                    self._child(part, parameter, outer)

    def _import(self, node: cst.Import | cst.ImportFrom, scope: Scope) -> None:
        if isinstance(node.names, cst.ImportStar):
            return
        for alias in node.names:
            self.found.parents[alias] = node
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
            case cst.AnnAssign():
                self.found.annotations.append((node, scope))
            case cst.Del():
                scope.deleted.update(_deleted(node.target))
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


def _deleted(target: cst.BaseExpression) -> Iterator[str]:
    if isinstance(target, cst.Name):
        yield target.value
    elif isinstance(target, cst.Tuple | cst.List):
        for element in target.elements:
            yield from _deleted(element.value)


def _bind_annotated(found: Walk) -> None:
    """A bare annotation in a function makes a name local to it, where nothing else does."""
    for node, scope in found.annotations:
        name = node.target.value if isinstance(node.target, cst.Name) else ""
        if name and isinstance(scope.node, cst.FunctionDef) and name not in scope.bindings:
            scope.bind(name, Binding("other", node))


def _move_declared(found: Walk) -> None:
    """Give the bindings of names declared global or nonlocal to the scope that owns them."""
    for scope in found.all_scopes:
        for name, kind in scope.declared_outer.items():
            if scope is found.root:
                continue
            owner: Scope | None = found.root
            if kind == "nonlocal":
                owner = scope.parent
                while owner is not None and (owner.is_class or name not in owner.bindings):
                    owner = owner.parent
            for binding in scope.bindings.pop(name, []):
                (owner or found.root).bind(name, binding)
            if name in scope.deleted:
                (owner or found.root).deleted.add(name)

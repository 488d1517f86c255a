"""What holds a function that is passed around: names, attributes, containers, and the functions that give it back."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import libcst as cst

from energy_patch.analysis.aliases import Aliases
from energy_patch.analysis.refs import Ref
from energy_patch.analysis.vocabulary import EXCHANGES, GROWS
from energy_patch.syntax.nodes import last_name

VALUES = (
    *(cst.Element, cst.StarredElement, cst.DictElement, cst.StarredDictElement, cst.Dict, cst.List, cst.Tuple),
    *(cst.Set, cst.IfExp, cst.BooleanOperation, cst.Lambda),
)
TAKES_OUT = frozenset({"get", "pop", "setdefault"})
CALLS_LATER = frozenset({"partial", "checkpoint"})


class Holders:
    """Follows functions from the expressions that name them to whatever may hold them.

    `calls` may be calls of one of them: `held[key](...)`, `get(name)(...)`, `self.loss(...)`.
    """

    def __init__(self, aliases: Aliases, start: Iterable[cst.CSTNode]) -> None:
        self.program = aliases.program
        self.graph = aliases.graph
        self.aliases = aliases
        self._refs: set[Ref] = set()
        self._followed: set[cst.CSTNode] = set()
        self._start = {*start}
        self._waiting = [*self._start]
        while self._waiting:
            self._follow(self._waiting.pop())
        known = self.graph.callee.keys() | self.graph.made.keys()
        self.calls = [call for call, _ in self.program.calls if call not in known and self._may_call(call)]

    def _may_call(self, call: cst.Call) -> bool:
        is_handed_on = last_name(call.func) in CALLS_LATER and any(item.value in self._followed for item in call.args)
        return is_handed_on or self._is_held(call.func)

    def _is_held(self, callee: cst.CSTNode) -> bool:
        while isinstance(callee, cst.Attribute | cst.Subscript | cst.Call):
            if callee in self._followed or self.aliases.ref(callee, self.program.scopes[callee]) in self._refs:
                return True
            callee = callee.func if isinstance(callee, cst.Call) else callee.value
        ref = self.aliases.ref(callee, self.program.scopes[callee]) if isinstance(callee, cst.Name) else None
        return callee in self._followed or ref in self._refs

    def _follow(self, node: cst.CSTNode) -> None:
        """Where does this value go from here?"""
        if node in self._followed:
            return
        self._followed.add(node)
        parent = self.program.parents.get(node)
        match parent:
            case cst.Return():
                self._given_by(parent)
            case cst.Call():
                if node in self._start:
                    self._given_by(parent)
            case cst.Arg():
                self._passed(parent)
            case cst.Subscript() if parent.value is node:
                self._waiting.append(parent)
            case cst.Attribute() if parent.attr.value in TAKES_OUT:
                self._waiting.append(self.program.parents[parent])
            case cst.Assign():
                for target in parent.targets:
                    self._bind(target.target)
            case cst.AnnAssign() | cst.NamedExpr():
                self._bind(parent.target)
            case cst.Param():
                self._default_of(parent)
            case _ if isinstance(parent, VALUES):
                self._waiting.append(parent)

    def _given_by(self, node: cst.CSTNode) -> None:
        """A function that gives the value back, or calls it, stands for it."""
        for ancestor in self.program.ancestors(node):
            if isinstance(ancestor, cst.Lambda):
                self._waiting.append(ancestor)
                return
            if isinstance(ancestor, cst.FunctionDef):
                if not any(EXCHANGES.search(name) for name in self.graph.names_below(ancestor)):
                    self._hold(self.aliases.ref(ancestor.name, self.program.scopes[ancestor]))
                if isinstance(node, cst.Return):
                    self._waiting += [call for call, _ in self.graph.callers(ancestor)]
                return

    def _passed(self, argument: cst.Arg) -> None:
        call = self.program.parents[argument]
        if not isinstance(call, cst.Call):
            return  # a base class
        function = self.graph.callee.get(call)
        if function is not None:
            names = [name for name, item in self.graph.bound(call) if item is argument]
            for name in names:
                self._hold(Ref(self.program.inside(function), name))
        self._waiting.append(call)  # partial(f), staticmethod(f)
        if isinstance(call.func, cst.Attribute) and call.func.attr.value in GROWS | {"register"}:
            self._bind(call.func.value)  # losses.update(swap=f)

    def _default_of(self, parameter: cst.Param) -> None:
        for ancestor in self.program.ancestors(parameter):
            if isinstance(ancestor, cst.FunctionDef):
                self._hold(Ref(self.program.inside(ancestor), parameter.name.value))
                return

    def _bind(self, target: cst.CSTNode) -> None:
        """The name or attribute that is given the value; for an item or a part of something, that whole."""
        scope = self.program.scopes[target]
        ref = self.aliases.ref(target, scope)
        while ref is None and isinstance(target, cst.Attribute | cst.Subscript):
            target = target.value
            ref = self.aliases.ref(target, scope)
        self._hold(ref)
        if scope.is_class and isinstance(scope.node, cst.ClassDef):
            self._hold(self.aliases.ref(scope.node.name, self.program.scopes[scope.node]))

    def _hold(self, ref: Ref | None) -> None:
        if ref is not None and ref not in self._refs:
            self._refs.add(ref)
            self._waiting += self._reads(ref)

    def _reads(self, ref: Ref) -> Iterator[cst.CSTNode]:
        for node in self.aliases.nodes.get(ref, ()):
            if not isinstance(self.program.parents[node], cst.AssignTarget | cst.FunctionDef | cst.ClassDef):
                yield node

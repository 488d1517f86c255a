"""Follows a module through a program: its names, and whatever holds its parameters: lists, loops, optimizers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import libcst as cst

from energy_patch.analysis.aliases import Aliases
from energy_patch.analysis.conditions import runs_alone
from energy_patch.analysis.fates import What, fate_of
from energy_patch.analysis.functions import is_target
from energy_patch.analysis.program import bases_out_of_sight
from energy_patch.analysis.refs import Ref
from energy_patch.analysis.uses import Uses
from energy_patch.analysis.vocabulary import (
    ACCESS,
    AGREES,
    EXCHANGES,
    HOOKS,
    LOADS,
    NUMBERS,
    PLAIN_BASES,
    SAVES,
    STAYS,
    WRAPS,
)
from energy_patch.syntax.nodes import last_name
from energy_patch.syntax.scopes import Comprehension

LOOKS = (
    *(cst.Comparison, cst.ComparisonTarget, cst.Expr, cst.Assert, cst.FormattedStringExpression, cst.CompIf),
    *(cst.Index, cst.Slice),
)
SAME = (cst.IfExp, cst.BooleanOperation, cst.BinaryOperation, cst.UnaryOperation, cst.Await)
HOLDS = (cst.Element, cst.StarredElement, cst.DictElement, cst.StarredDictElement)


def uses_of(aliases: Aliases, start: Iterable[Ref], losses: Iterable[cst.Call] = ()) -> Uses:
    """What becomes of the module that has the names `start`; the calls of `losses` only compute with it."""
    follower = _Follower(aliases, start, losses)
    follower.run()
    return follower.uses


class _Names:
    """The names of a module, and of what holds its parameters, that are still to be followed."""

    def __init__(self, aliases: Aliases, start: Iterable[Ref]) -> None:
        self.aliases = aliases
        self.scopes = aliases.program.scopes
        self._known: set[tuple[Ref, What]] = set()
        self._waiting: list[tuple[Ref, What]] = [(ref, "module") for ref in start]

    def add(self, ref: Ref, what: What) -> None:
        self._waiting.append((ref, what))

    def __iter__(self) -> Iterator[tuple[Ref, What]]:
        """Each name once, those too that come meanwhile."""
        while self._waiting:
            found = self._waiting.pop()
            if found not in self._known:
                self._known.add(found)
                yield found

    def bind(self, target: cst.CSTNode, what: What) -> Iterator[cst.CSTNode]:
        """Add the names of a target; those parts come out that cannot be followed."""
        if isinstance(target, cst.Tuple | cst.List):
            for element in target.elements:
                yield from self.bind(element.value, _inner(what))
            return
        ref = self.aliases.ref(target, self.scopes[target])
        if ref is not None:
            self.add(ref, what)
        elif not self._is_known_place(target):
            yield target

    def _is_known_place(self, target: cst.CSTNode) -> bool:
        """`group["lr"]`, `parameter.grad`: a part of something that is followed anyway, from here on."""
        is_item = False
        while isinstance(target, cst.Attribute | cst.Subscript):
            is_item = is_item or isinstance(target, cst.Subscript)
            target = target.value
            ref = self.aliases.ref(target, self.scopes[target])
            if ref is not None and (is_item or any((ref, what) in self._known for what in ("parts", "optimizer"))):
                self.add(ref, "parts")
                return True
        return False


class _Follower:
    """Goes from each name to where its value goes, and notes what was found on the way."""

    def __init__(self, aliases: Aliases, start: Iterable[Ref], losses: Iterable[cst.Call]) -> None:
        self.program = aliases.program
        self.graph = aliases.graph
        self.aliases = aliases
        self.uses = Uses(aliases.program)
        self._noted = self.uses.by_fate
        self._losses = set(losses)
        self._followed: set[tuple[cst.CSTNode, What]] = set()
        self._entered: dict[cst.FunctionDef, set[cst.Call]] = {}
        self._names = _Names(aliases, start)

    def run(self) -> None:
        for ref, what in self._names:
            self._follow(ref, what)

    def _follow(self, ref: Ref, what: What) -> None:
        if what == "module":
            self.uses.modules.add(ref)
            if isinstance(ref.scope.node, cst.ClassDef):
                self._held_by(ref.scope.node)
        for node in self.aliases.nodes.get(ref, ()):
            parent = self.program.parents[node]
            if isinstance(parent, cst.Attribute) and parent.attr.value == "module":
                continue  # the longer name is followed
            if not is_target(self.program, node):
                self._climb(node, what)

    def _held_by(self, owner: cst.ClassDef) -> None:
        """Objects that hold the module may be wrapped as a whole: here, or by a base class that is out of sight."""
        for base in bases_out_of_sight(self.program, owner):
            if last_name(base) not in PLAIN_BASES:
                self.uses.hidden.append(base)
        for call, made in self.graph.made.items():
            if made is owner or owner in self.program.bases(made):
                self._climb(call, "parts")

    def _climb(self, node: cst.CSTNode, what: What) -> None:
        """Where does this value go from here?"""
        if (node, what) in self._followed:
            return
        self._followed.add((node, what))
        parent = self.program.parents[node]
        match parent:
            case cst.Attribute():
                self._attribute(node, parent, what)
            case cst.Call():
                self.uses.called.extend([node] if what == "module" else [])
            case cst.Arg():
                self._argument(parent, what)
            case cst.For() | cst.CompFor() if parent.iter is node:
                self._bind(parent.target, _inner(what))
            case cst.Assign() | cst.AnnAssign() | cst.AugAssign() | cst.NamedExpr():
                self._assigned(parent, what)
            case cst.Subscript() if parent.value is node:
                if not is_target(self.program, parent):
                    self._climb(parent, _inner(what))
            case cst.IfExp() | cst.If() | cst.While() if parent.test is node:
                return
            case cst.UnaryOperation(operator=cst.Not()):
                return
            case cst.Return() | cst.Yield():
                self._returned(parent, what)
            case _ if isinstance(parent, SAME):
                self._climb(parent, what)
            case _ if isinstance(parent, (*HOLDS, *Comprehension)):
                self._climb(self.program.parents[parent] if isinstance(parent, HOLDS) else parent, _inner(what))
            case _ if not isinstance(parent, LOOKS):
                self.uses.hidden.append(node)

    def _attribute(self, node: cst.CSTNode, attribute: cst.Attribute, what: What) -> None:
        name = attribute.attr.value
        parent = self.program.parents[attribute]
        is_called = isinstance(parent, cst.Call) and parent.func is attribute
        if HOOKS.search(name) or EXCHANGES.search(name):
            self.uses.hidden.append(attribute)
        elif LOADS.search(name) and what != "optimizer":
            self.uses.loaded.append(node)
        elif name in SAVES and what == "module":
            self.uses.saved.append(node)
        elif name == "step" and what == "optimizer" and isinstance(parent, cst.Call):
            self.uses.steps.append(parent)
        elif what == "module" and name in STAYS and is_called:
            self._climb(parent, "module")
        elif (what != "module" or name in ACCESS) and name not in NUMBERS and not is_target(self.program, attribute):
            self._climb(parent if is_called else attribute, "parts")

    def _argument(self, argument: cst.Arg, what: What) -> None:
        call = self.program.parents[argument]
        if not isinstance(call, cst.Call) or call in self._losses or runs_alone(self.program, call):
            return
        fate = fate_of(call, what)
        if (call in self.graph.callee or call in self.graph.made) and last_name(call.func) not in AGREES | WRAPS:
            self._enters(argument, call, what)
        elif fate in self._noted:
            self._noted[fate].append(call)
            if fate == "optimized":
                self._climb(call, "optimizer")
        elif fate == "kept":
            name = last_name(call.func)
            assert isinstance(call.func, cst.Attribute)
            self._bind(call.func.value, "optimizer" if name == "add_param_group" else "parts")
        elif fate == "passed on":
            self._climb(call, what if last_name(call.func) in ("getattr", "compile") else _inner(what))
        elif fate == "computed with":
            self._climb(call, "parts")
        elif fate == "hidden":
            self.uses.hidden.append(call)
            if last_name(call.func)[:1].isupper():
                self._climb(call, "parts")  # an object that holds the module

    def _enters(self, argument: cst.Arg, call: cst.Call, what: What) -> None:
        function = self.graph.callee.get(call)
        names = [name for name, item in self.graph.bound(call) if item is argument] if function is not None else []
        for name in names:
            assert function is not None
            self._entered.setdefault(function, set()).add(call)
            self._names.add(Ref(self.program.inside(function), name), what)
        if call in self.graph.made:
            self._climb(call, "parts")  # an object that holds the module
        if not names:
            self.uses.hidden.append(call)

    def _returned(self, statement: cst.CSTNode, what: What) -> None:
        function = self.program.function_around(statement)
        entered = self._entered.get(function) if function is not None else None
        for call, _ in self.graph.callers(function) if function is not None else ():
            if entered is None or call in entered:
                self._climb(call, what)

    def _assigned(self, statement: cst.Assign | cst.AnnAssign | cst.AugAssign | cst.NamedExpr, what: What) -> None:
        targets = statement.targets if isinstance(statement, cst.Assign) else [statement]
        for item in targets:
            self._bind(item.target, what)
        if isinstance(statement, cst.NamedExpr):
            self._climb(statement, what)

    def _bind(self, target: cst.CSTNode, what: What) -> None:
        self.uses.hidden.extend(self._names.bind(target, what))


def _inner(what: What) -> What:
    """What an element of a list of something is."""
    return "optimizer" if what == "optimizer" else "parts"

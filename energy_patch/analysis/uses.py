"""What becomes of a module in a program: wrapped, exchanged, saved, loaded, called, stepped, or out of sight.

The module is followed forward by its names, and so is whatever holds its parameters: lists, loops, optimizers. A use
that cannot be read is kept as hidden, and whoever asks decides what may hide there.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Literal

import libcst as cst

from energy_patch.analysis.aliases import Aliases, Ref
from energy_patch.analysis.conditions import on_one_rank, runs_alone
from energy_patch.analysis.functions import is_none
from energy_patch.analysis.vocabulary import (
    ACCESS,
    AGREES,
    EXCHANGES,
    GROWS,
    HARMLESS,
    HOOKS,
    LOADS,
    NUMBERS,
    OPTIMIZER,
    PASSES_ON,
    PLAIN_BASES,
    SAVES,
    SCHEDULER,
    STAYS,
    WRAPS,
)
from energy_patch.locate.near_misses import SIBLING
from energy_patch.syntax.nodes import dotted_name, last_name
from energy_patch.syntax.scopes import Comprehension

What = Literal["module", "parts", "optimizer"]

LOOKS = (cst.Comparison, cst.ComparisonTarget, cst.Expr, cst.Assert, cst.FormattedStringExpression, cst.CompIf)
HOLDS = (cst.Element, cst.StarredElement, cst.DictElement, cst.StarredDictElement)


class Uses:
    """All that a program does with one module; every list holds the nodes where it happens."""

    def __init__(self, aliases: Aliases, start: Iterable[Ref], losses: Iterable[cst.Call] = ()) -> None:
        self.program = aliases.program
        self.graph = aliases.graph
        self.aliases = aliases
        self.modules: set[Ref] = set()
        self.wrapped: list[cst.CSTNode] = []
        self.exchanged: list[cst.CSTNode] = []
        self.saved: list[cst.CSTNode] = []
        self.loaded: list[cst.CSTNode] = []
        self.called: list[cst.CSTNode] = []
        self.optimized: list[cst.Call] = []
        self.steps: list[cst.Call] = []
        self.hidden: list[cst.CSTNode] = []
        self._losses = set(losses)
        self._followed: set[tuple[cst.CSTNode, What]] = set()
        self._entered: dict[cst.FunctionDef, set[cst.Call]] = {}
        self._known: set[tuple[Ref, What]] = set()
        self._waiting: list[tuple[Ref, What]] = [(ref, "module") for ref in start]
        while self._waiting:
            self._follow(*self._waiting.pop())

    def hidden_from_some(self) -> list[cst.CSTNode]:
        """Uses out of sight that more than one rank reaches."""
        return [node for node in self.hidden if not on_one_rank(self.program, node)]

    def _follow(self, ref: Ref, what: What) -> None:
        if (ref, what) in self._known:
            return
        self._known.add((ref, what))
        if what == "module":
            self.modules.add(ref)
            if isinstance(ref.scope.node, cst.ClassDef):
                self._held_by(ref.scope.node)
        for node in self.aliases.nodes.get(ref, ()):
            parent = self.program.parents[node]
            if isinstance(parent, cst.Attribute) and parent.attr.value == "module":
                continue  # the longer name is followed
            if not self._is_target(node):
                self._climb(node, what)

    def _held_by(self, owner: cst.ClassDef) -> None:
        """Objects that hold the module may be wrapped as a whole: here, or by a base class that is out of sight."""
        for base in self.program.bases_out_of_sight(owner):
            if last_name(base) not in PLAIN_BASES:
                self.hidden.append(base)
        for call, made in self.graph.made.items():
            if made is owner or owner in self.program.bases(made):
                self._climb(call, "parts")

    def _is_target(self, node: cst.CSTNode) -> bool:
        child = node
        for parent in self.program.ancestors(node):
            if isinstance(parent, cst.AssignTarget | cst.NameItem | cst.Del | cst.Param | cst.AsName):
                return True
            if isinstance(parent, cst.AnnAssign | cst.AugAssign | cst.For | cst.CompFor | cst.NamedExpr):
                return parent.target is child
            if not isinstance(parent, cst.Element | cst.Tuple | cst.List):
                return False
            child = parent
        return False

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
                if what == "module":
                    self.called.append(node)
            case cst.Arg():
                call = self.program.parents[parent]
                if isinstance(call, cst.Call):
                    self._argument(parent, call, what)
            case cst.For() | cst.CompFor() if parent.iter is node:
                self._bind(parent.target, _inner(what))
            case cst.Assign() | cst.AnnAssign() | cst.AugAssign() | cst.NamedExpr():
                self._assigned(parent, what)
            case cst.Subscript() if parent.value is node:
                if not self._is_target(parent):
                    self._climb(parent, _inner(what))
            case cst.IfExp() | cst.If() | cst.While() if parent.test is node:
                return
            case cst.UnaryOperation(operator=cst.Not()) | cst.Index() | cst.Slice():
                return
            case cst.IfExp() | cst.BooleanOperation() | cst.BinaryOperation() | cst.UnaryOperation() | cst.Await():
                self._climb(parent, what)
            case cst.Return() | cst.Yield():
                self._returned(parent, what)
            case _ if isinstance(parent, HOLDS):
                self._climb(self.program.parents[parent], _inner(what))
            case _ if isinstance(parent, Comprehension):
                self._climb(parent, _inner(what))
            case _ if not isinstance(parent, LOOKS):
                self.hidden.append(node)

    def _attribute(self, node: cst.CSTNode, attribute: cst.Attribute, what: What) -> None:
        name = attribute.attr.value
        parent = self.program.parents[attribute]
        is_called = isinstance(parent, cst.Call) and parent.func is attribute
        if HOOKS.search(name) or EXCHANGES.search(name):
            self.hidden.append(attribute)
        elif LOADS.search(name) and what != "optimizer":
            self.loaded.append(node)
        elif name in SAVES and what == "module":
            self.saved.append(node)
        elif name == "step" and what == "optimizer" and isinstance(parent, cst.Call):
            self.steps.append(parent)
        elif what == "module" and name in STAYS and is_called:
            self._climb(parent, "module")
        elif (what != "module" or name in ACCESS) and name not in NUMBERS and not self._is_target(attribute):
            self._climb(parent if is_called else attribute, "parts")

    # --- handed on ---------------------------------------------------------------------------------------------

    def _argument(self, argument: cst.Arg, call: cst.Call, what: What) -> None:
        name = last_name(call.func)
        if call in self._losses or runs_alone(self.program, call):
            return
        if name in AGREES:
            self.exchanged.append(call)
        elif (what != "optimizer" and name in WRAPS) or (
            name == "initialize" and "deepspeed" in (dotted_name(call.func) or "")
        ):
            self.wrapped.append(call)
        elif call in self.graph.callee or call in self.graph.made:
            self._enters(argument, call, what)
        elif name == "step" and what == "optimizer":
            self.steps.append(call)  # scaler.step(optimizer)
        elif EXCHANGES.search(name) or re.match(r"(dist|torch\.distributed|c10d|hvd)\.", dotted_name(call.func) or ""):
            self.exchanged.append(call)
        elif name in SAVES:
            self.saved.append(call)
        elif LOADS.search(name):
            self.loaded.append(call)
        elif name in GROWS and isinstance(call.func, cst.Attribute):
            self._bind(call.func.value, "optimizer" if name == "add_param_group" else "parts")
        elif name in PASSES_ON:
            self._climb(call, what if name in ("getattr", "compile") else _inner(what))
        elif SCHEDULER.search(name) or name in HARMLESS or SIBLING.fullmatch(name):
            return  # SIBLING: the losses that come with the public energy model
        elif what != "module" and OPTIMIZER.search(name):
            self.optimized.append(call)
            self._climb(call, "optimizer")
        elif what != "module" and self._is_of_torch(call):
            self._climb(call, "parts")
        else:
            self.hidden.append(call)
            if name[:1].isupper():
                self._climb(call, "parts")  # an object that holds the module

    def _enters(self, argument: cst.Arg, call: cst.Call, what: What) -> None:
        function = self.graph.callee.get(call)
        names = [name for name, item in self.graph.bound(call) if item is argument] if function is not None else []
        for name in names:
            assert function is not None
            self._entered.setdefault(function, set()).add(call)
            self._waiting.append((Ref(self.program.inside(function), name), what))
        if call in self.graph.made:
            self._climb(call, "parts")  # an object that holds the module
        if not names:
            self.hidden.append(call)

    def _is_of_torch(self, call: cst.Call) -> bool:
        name = dotted_name(call.func) or ""
        return name.startswith("torch.") and not re.match(r"torch\.(distributed|nn|optim|save|jit)\b", name)

    def _returned(self, statement: cst.CSTNode, what: What) -> None:
        function = self.program.function_around(statement)
        entered = self._entered.get(function) if function is not None else None
        for call, _ in self.graph.callers(function) if function is not None else ():
            if entered is None or call in entered:
                self._climb(call, what)

    # --- given another name ------------------------------------------------------------------------------------

    def _assigned(self, statement: cst.Assign | cst.AnnAssign | cst.AugAssign | cst.NamedExpr, what: What) -> None:
        targets = statement.targets if isinstance(statement, cst.Assign) else [statement]
        for item in targets:
            self._bind(item.target, what)
        if isinstance(statement, cst.NamedExpr):
            self._climb(statement, what)

    def _bind(self, target: cst.CSTNode, what: What) -> None:
        if isinstance(target, cst.Tuple | cst.List):
            for element in target.elements:
                self._bind(element.value, _inner(what))
            return
        ref = self.aliases.ref(target, self.program.scopes[target])
        if ref is not None:
            self._waiting.append((ref, what))
        elif not self._is_known_place(target):
            self.hidden.append(target)

    def _is_known_place(self, target: cst.CSTNode) -> bool:
        """`group["lr"]`, `parameter.grad`: a part of something that is followed anyway, from here on."""
        is_item = False
        while isinstance(target, cst.Attribute | cst.Subscript):
            is_item = is_item or isinstance(target, cst.Subscript)
            target = target.value
            ref = self.aliases.ref(target, self.program.scopes[target])
            if ref is not None and (is_item or any((ref, what) in self._known for what in ("parts", "optimizer"))):
                self._waiting.append((ref, "parts"))
                return True
        return False


def _inner(what: What) -> What:
    """What an element of a list of something is."""
    return "optimizer" if what == "optimizer" else "parts"


def silent_exchanges(aliases: Aliases) -> list[cst.CSTNode]:
    """Calls without arguments that by their name may make ranks agree: on what, cannot be read."""
    return [
        call
        for call, scope in aliases.program.calls
        if not [argument for argument in call.args if not is_none(argument.value)]
        and EXCHANGES.search(name := last_name(call.func))
        and name not in ("no_sync", "prepare")
        and call not in aliases.graph.callee
    ]

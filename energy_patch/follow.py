"""Follow a value by its names: up through the arguments of callers, down into functions that it is passed to.

Closures and `self.` attributes are seen through; what cannot be followed is a refusal with words, not a guess.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property

import libcst as cst

from energy_patch.locate.callers import argument_for, first_parameter
from energy_patch.refusal import Refusal
from energy_patch.syntax.tree import Binding, Scope, Tree, all_parameters, dotted_name, last_name
from energy_patch.values import Values

WRAPPERS = frozenset({"DDP", "DistributedDataParallel", "compile", "wrap_ddp"})
BY_HAND = "name the lines with --broadcast-after LINE and --average-before LINE, or pass --no-sync"


@dataclass(frozen=True)
class Ref:
    """One name of the model (or of its optimiser): a variable of a scope, or `self.x` of a class scope."""

    scope: Scope
    name: str

    @property
    def attribute(self) -> str | None:
        return self.name.partition(".")[2] or None


class Follower:
    """Follows a value by its names, between functions of one file."""

    def __init__(self, tree: Tree, values: Values) -> None:
        self.tree = tree
        self.values = values

    def models(self, found: list[tuple[cst.Call, Scope]]) -> list[Ref]:
        """Every name of the model that the loss calls are given.

        Raises:
            Refusal: the first argument is not a name that can be followed.
        """
        start: list[Ref] = []
        for call, scope in found:
            argument = next(
                (item for item in call.args if item.keyword is not None and item.keyword.value == "energy_model"),
                call.args[0] if call.args else None,
            )
            ref = self.ref(argument.value, scope) if argument is not None and not argument.star else None
            if ref is None:
                written = self.tree.text(argument.value) if argument is not None else "nothing"
                message = f"the loss is given {written} as its energy model, which cannot be followed; {BY_HAND}"
                raise Refusal("not-found", message, line=self.tree.line(call))
            written = self.tree.text(argument.value) if argument is not None else ""
            if written.endswith(".module"):
                message = (
                    f"the loss is given {written}, past the wrapper that would average its gradients; leave the energy "
                    "model unwrapped (the patch keeps the ranks equal by itself), or pass --no-sync"
                )
                raise Refusal("unsupported", message, line=self.tree.line(call))
            start.append(ref)
        return self.follow(start)

    def ref(self, node: cst.BaseExpression, scope: Scope) -> Ref | None:
        """The name that an expression is: `x`, `self.x`, or either with `.module` behind it."""
        name = dotted_name(node)
        name = name.removesuffix(".module") if name else None
        if not name:
            return None
        if "." not in name:
            owner = scope.owner(name)
            return Ref(owner, name) if owner else None
        first, _, rest = name.partition(".")
        holder = self._instance(first, scope)
        return Ref(holder, f"self.{rest}") if holder is not None and "." not in rest else None

    def _instance(self, name: str, scope: Scope) -> Scope | None:
        """The class whose instance a name is: `self` of a method, also in functions defined in it."""
        owner = scope.owner(name)
        is_self = owner is not None and first_parameter(owner) == name
        return owner.parent if owner is not None and is_self else None

    def follow(self, start: Iterable[Ref]) -> list[Ref]:
        """All names of the same value, the given ones first.

        First up to where the value comes from, then down to where it goes: a helper that is called with several
        modules must not make them one.
        """
        upward = self._closure(start, self._origins)
        return self._closure(upward, self._destinations)

    def _closure(self, start: Iterable[Ref], step: Callable[[Ref], Iterable[Ref]]) -> list[Ref]:
        found: list[Ref] = []
        waiting = list(start)
        while waiting:
            ref = waiting.pop(0)
            if ref not in found:
                found.append(ref)
                waiting += step(ref)
        return found

    def _origins(self, ref: Ref) -> Iterator[Ref]:
        """Where a name's value comes from: arguments of callers, another name, what a wrapper wraps."""
        for binding, scope in self.bindings(ref):
            sources: list[tuple[cst.BaseExpression, Scope]] = []
            if isinstance(binding.node, cst.Param) and isinstance(ref.scope.node, cst.FunctionDef):
                sources = self.values.callers.passed(ref.scope.node, ref.name)
            elif binding.kind == "assign" and binding.value is not None:
                value = binding.value
                is_wrapped = isinstance(value, cst.Call) and last_name(value.func) in WRAPPERS and value.args
                sources = [(value.args[0].value if is_wrapped else value, scope)]  # type: ignore[attr-defined]
            for value, at in sources:
                if (origin := self.ref(value, at)) is not None:
                    yield origin

    def _destinations(self, ref: Ref) -> Iterator[Ref]:
        """Where a name's value goes: parameters that it is passed to, names that it is assigned to."""
        yield from self._handed_on.get(ref, ())

    @cached_property
    def _handed_on(self) -> dict[Ref, list[Ref]]:
        """For each name, the names that its value is given by a call or an assignment."""
        found: dict[Ref, list[Ref]] = {}
        for call, at in self.tree.calls:
            function = self.function(call, at)
            if function is None:
                continue
            inner = self.tree.scopes[function.body]
            is_method = self.values.callers.takes_self(function)
            for parameter in all_parameters(function.params):
                value = argument_for(function, call, parameter.name.value, is_method=is_method)
                if value is not None and (origin := self.ref(value, at)) is not None:
                    found.setdefault(origin, []).append(Ref(inner, parameter.name.value))
        for node, scope in self.assignments:
            if node.value is not None and (origin := self.ref(node.value, scope)) is not None:
                for target in node.targets if isinstance(node, cst.Assign) else [node]:
                    if (destination := self.ref(target.target, scope)) is not None:
                        found.setdefault(origin, []).append(destination)
        return found

    def function(self, call: cst.Call, at: Scope) -> cst.FunctionDef | None:
        """The function of this file that a call surely means: by its name, or `self.method`."""
        name = dotted_name(call.func) or ""
        first, _, rest = name.partition(".")
        bindings = at.resolve(first)
        if rest:
            holder = self._instance(first, at)
            bindings = holder.bindings.get(rest, []) if holder is not None else []
        node = bindings[0].node if len(bindings) == 1 else None
        return node if isinstance(node, cst.FunctionDef) else None

    @cached_property
    def assignments(self) -> list[tuple[cst.Assign | cst.AnnAssign, Scope]]:
        return [(node, at) for node, at in self.tree.scopes.items() if isinstance(node, cst.Assign | cst.AnnAssign)]

    def bindings(self, ref: Ref) -> list[tuple[Binding, Scope]]:
        """Everything that gives a name its value, with the scope in which it happens."""
        if ref.attribute is None:
            return [(binding, ref.scope) for binding in ref.scope.bindings.get(ref.name, [])]
        found = []
        for node, scope in self.assignments:
            for target in node.targets if isinstance(node, cst.Assign) else [node]:
                if isinstance(target.target, cst.Attribute) and self.ref(target.target, scope) == ref:
                    found.append((Binding("assign", node, node.value), scope))
        return found

    def _receiver(self, holder: Scope, scope: Scope) -> str | None:
        """What an instance of a class is called in one of its methods or in a function defined there."""
        method: Scope | None = scope
        while method is not None:
            name = first_parameter(method)
            if name is not None and method.parent is holder and scope.owner(name) is method:
                return name
            method = method.parent
        return None

    def name_in(self, refs: Iterable[Ref], scope: Scope) -> str | None:
        """What a followed value is called in a scope."""
        for ref in refs:
            if ref.attribute is not None:
                receiver = self._receiver(ref.scope, scope)
                if receiver is not None:
                    return f"{receiver}.{ref.attribute}"
            elif scope.owner(ref.name) is ref.scope:
                return ref.name
        return None

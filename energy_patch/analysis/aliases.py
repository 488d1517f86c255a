"""Follows values back to what made them: through names, arguments and results, in every file."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import libcst as cst

from energy_patch.analysis.refs import Origin, Ref, Refs, element_of
from energy_patch.syntax.nodes import last_name, returns_of
from energy_patch.syntax.scopes import Scope

Inside = Callable[[cst.BaseExpression], Sequence[cst.BaseExpression] | None]
WRAPPERS = frozenset({"DDP", "DistributedDataParallel", "compile", "FSDP", "FullyShardedDataParallel", "prepare"})


class Lineage(NamedTuple):
    """The names that a value had on its way, and the expressions that first made it (never the name None)."""

    refs: list[Ref]
    made: list[Origin]


class Aliases(Refs):
    """The names of one value, and the expressions that it may come from."""

    def made_from(self, node: cst.BaseExpression, scope: Scope, inside: Inside) -> Iterator[cst.BaseExpression]:
        """Every expression on the way back from a value, names, arguments and results followed.

        `inside` says which parts of an expression its value is made of, or None where the way ends. Of the names,
        only those come out that lead nowhere.
        """
        start = Origin(node, scope)
        waiting, seen = [start], {start}
        while waiting:
            here = waiting.pop(0)
            more: list[Origin | None] = []
            if inside(here.node) is None:
                continue
            ref = self.ref(here.node, here.scope)
            if ref is not None:
                more = [_placed(item, here.place) for item in self.origins(ref)]
                if None in more:
                    yield here.node
            else:
                yield here.node
                more = [*self._step(here, inside)]
            for item in more:
                if item is not None and item not in seen:
                    seen.add(item)
                    waiting.append(item)

    def _step(self, here: Origin, inside: Inside) -> Iterator[Origin]:
        parts = inside(here.node) or ()
        function = self.graph.callee.get(here.node) if isinstance(here.node, cst.Call) else None
        if function is not None and here.node not in self.graph.made:
            for statement in returns_of(function):
                if statement.value is not None:
                    element = element_of(statement.value, self.program.inside(function), here.place)
                    if element is not None:
                        yield element
            return
        if isinstance(here.node, cst.IfExp):
            yield from (Origin(part, here.scope, here.place) for part in (here.node.body, here.node.orelse))
        elif isinstance(here.node, cst.NamedExpr):
            yield Origin(here.node.value, here.scope, here.place)
        elif (
            isinstance(here.node, cst.Tuple) and (element := element_of(here.node, here.scope, here.place)) is not None
        ):
            if element.node is not here.node:
                yield element
            else:
                yield from (Origin(part, here.scope) for part in parts)
        else:
            yield from (Origin(part, here.scope) for part in parts)

    def upward(self, start: Iterable[Ref]) -> Lineage:
        """Where the values of some names came from."""
        refs: list[Ref] = []
        made: list[Origin] = []
        waiting = list(start)
        while waiting:
            ref = waiting.pop(0)
            if ref in refs:
                continue
            refs.append(ref)
            origins = [item for item in self.origins(ref) if item is not None]
            while origins:
                item = origins.pop()
                source = self.ref(item.node, item.scope)
                if source is not None:
                    waiting += [source] if item.place is None else []
                    continue
                if isinstance(item.node, cst.Name):
                    continue  # `None`, or a name that nothing in sight binds
                single = [*self._step(item, wrapped_part)] if self._is_transparent(item.node) else []
                origins += single
                if not single and item not in made:
                    made.append(item)
        return Lineage(refs, made)

    def _is_transparent(self, node: cst.BaseExpression) -> bool:
        """A choice, a wrapper, or a call of a function that nobody else calls: what is inside is the same value."""
        if isinstance(node, cst.IfExp | cst.NamedExpr):
            return True
        if not isinstance(node, cst.Call):
            return False
        function = self.graph.callee.get(node)
        if function is not None:
            return node not in self.graph.made and len(self.graph.callers(function)) == 1
        return last_name(node.func) in WRAPPERS


def wrapped_part(node: cst.BaseExpression) -> list[cst.BaseExpression]:
    """`x` in `DDP(x)` and `torch.compile(x)`."""
    is_wrapper = isinstance(node, cst.Call) and node.args and last_name(node.func) in WRAPPERS
    return [node.args[0].value] if is_wrapper else []  # type: ignore[attr-defined]


def _placed(item: Origin | None, place: int | None) -> Origin | None:
    """A whole value of which one element was asked for."""
    if item is None or item.place is not None or place is None:
        return item
    return element_of(item.node, item.scope, place)

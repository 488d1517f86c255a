"""The energy model of a script: where it is made, all its names, and what becomes of it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

import libcst as cst

from energy_patch.analysis.aliases import Aliases
from energy_patch.analysis.follower import uses_of
from energy_patch.analysis.refs import Origin, Ref, assignments
from energy_patch.analysis.uses import Uses
from energy_patch.analysis.vocabulary import STAYS
from energy_patch.diagnose.loss_uses import LossUses
from energy_patch.locate.loss_calls import argument_of
from energy_patch.syntax.nodes import descendants, last_name
from energy_patch.syntax.scopes import Scope

ENERGY_CLASS = re.compile(r"Energy(?!\w*(Loss|Config|Optim|Data|Trainer))\w*|EBM\w*")


@dataclass(frozen=True)
class Model:
    """The energy model: all its names, the expressions that make it, and what becomes of it."""

    aliases: Aliases
    refs: tuple[Ref, ...]
    made: tuple[Origin, ...]
    uses: Uses

    @property
    def classes(self) -> list[cst.ClassDef]:
        """The classes in sight that it is made of."""
        bases = [base_of_build(item.node) for item in self.made]
        found = [self.aliases.graph.made.get(base) for base in bases if isinstance(base, cst.Call)]
        return [node for node in dict.fromkeys(found) if node is not None]

    @property
    def saves(self) -> list[cst.CSTNode]:
        """The saves that the model itself goes into, not its optimizer."""
        names = {node for ref in self.uses.modules for node in self.aliases.nodes.get(ref, ())}
        return [node for node in dict.fromkeys(self.uses.saved) if names & {*descendants(node)}]


def energy_model(aliases: Aliases, loss: LossUses) -> Model | None:
    """The model that the loss is given, or that is built from a class of that name; None if there is none."""
    start = [
        ref
        for call, scope in loss.calls
        if (argument := argument_of(call, "energy_model")) is not None
        and (ref := aliases.ref(argument, scope)) is not None
    ]
    refs, made = aliases.upward(start)
    if not made:
        refs, made = aliases.upward([*start, *_named_models(aliases)])
    if not refs:
        return None
    losses = [*loss.held, *(call for call, _ in loss.calls)]
    return Model(aliases, tuple(refs), tuple(made), uses_of(aliases, refs, losses))


def _named_models(aliases: Aliases) -> Iterator[Ref]:
    """Names that are given a new instance of an energy model's class."""
    for target, value, scope in assignments(aliases.program):
        base = base_of_build(value)
        if not isinstance(base, cst.Call) or not ENERGY_CLASS.fullmatch(_imported_name(base.func, scope)):
            continue
        if (ref := aliases.ref(target, scope)) is not None:
            yield ref


def _imported_name(callee: cst.BaseExpression, scope: Scope) -> str:
    """What a callee is called where it is defined."""
    bindings = scope.resolve(callee.value) if isinstance(callee, cst.Name) else []
    node = bindings[0].node if len(bindings) == 1 else None
    return last_name(node.name if isinstance(node, cst.ImportAlias) else callee)


def base_of_build(value: cst.BaseExpression) -> cst.BaseExpression:
    """`EnergyModel(...)` in `EnergyModel(...).to(device).train()`."""
    while isinstance(value, cst.Call) and isinstance(value.func, cst.Attribute) and value.func.attr.value in STAYS:
        value = value.func.value
    return value

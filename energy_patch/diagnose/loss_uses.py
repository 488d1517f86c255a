"""How a script uses the loss: the calls that are followed, and whatever else names it."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property

import libcst as cst

from energy_patch.analysis.aliases import Aliases
from energy_patch.analysis.files import ScopedCall
from energy_patch.analysis.holders import Holders
from energy_patch.analysis.program import Program
from energy_patch.locate.facts import ORIGINAL_LOSS
from energy_patch.locate.locator import top_level_name
from energy_patch.locate.loss_calls import loss_calls
from energy_patch.refusal import Refusal
from energy_patch.syntax.nodes import dotted_name, last_name
from energy_patch.syntax.scopes import Scope
from energy_patch.syntax.tree import Tree


class LossUses:
    """The uses of the loss in a program.

    `calls` are those that `apply` would replace: the script's own, or, where it has none, those of other files in what
    the script uses (`used`). `elsewhere` are the calls of other files that it would leave. `refusal` says why the
    script's own calls cannot be told.
    """

    def __init__(self, aliases: Aliases, used: frozenset[str]) -> None:
        self.aliases = aliases
        self.program: Program = aliases.program
        self.refusal: Refusal | None = None
        script, *others = self.program.trees
        self.calls = [*self._calls(script, used)]
        self.elsewhere = [call for tree in others for call in self._calls(tree, used)]
        if not self.calls:
            self.calls, self.elsewhere = self.elsewhere, []

    def _calls(self, tree: Tree, used: frozenset[str]) -> Iterator[ScopedCall]:
        if ORIGINAL_LOSS not in tree.source.text:
            return
        try:
            found = loss_calls(tree)
        except Refusal as refusal:
            if tree is self.program.script:
                self.refusal = refusal
            return
        for call, scope in found:
            if tree is self.program.script or top_level_name(tree, call) in {None, *used}:
                yield call, scope

    @cached_property
    def names(self) -> list[cst.Name | cst.Attribute]:
        """Where the loss is named in any other way than by its import or definition."""
        found: list[cst.Name | cst.Attribute] = []
        found += [node for node, scope in self.program.names if self._means_loss(node, scope)]
        found += [node for node, _ in self.program.attributes if node.attr.value == ORIGINAL_LOSS]
        return [node for node in found if not isinstance(self.program.parents.get(node), cst.FunctionDef | cst.AsName)]

    def _means_loss(self, node: cst.Name, scope: Scope) -> bool:
        bindings = scope.resolve(node.value)
        if not bindings:
            return node.value == ORIGINAL_LOSS and isinstance(self.program.parents[node], cst.Call)
        return any(
            (isinstance(item.node, cst.ImportAlias) and dotted_name(item.node.name) == ORIGINAL_LOSS)
            or (isinstance(item.node, cst.FunctionDef) and node.value == ORIGINAL_LOSS)
            for item in bindings
        )

    @cached_property
    def strings(self) -> list[cst.SimpleString]:
        """Strings that are the loss's name: `getattr(module, "...")`."""
        strings = [node for node in self.program.scopes if isinstance(node, cst.SimpleString)]
        return [node for node in strings if node.value.strip("\"'") == ORIGINAL_LOSS]

    @cached_property
    def held(self) -> list[cst.Call]:
        """Calls of what may hold the loss: `losses[name](...)`, `self.loss(...)`."""
        got = [
            call
            for node in self.strings
            if isinstance(call := self.program.parents[self.program.parents[node]], cst.Call)
            and last_name(call.func) == "getattr"
        ]
        return Holders(self.aliases, [*self.names, *got]).calls

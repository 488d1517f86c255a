"""What becomes of a module in a program: wrapped, exchanged, saved, loaded, called, stepped, or out of sight."""

from __future__ import annotations

from dataclasses import dataclass, field

import libcst as cst

from energy_patch.analysis.aliases import Aliases
from energy_patch.analysis.conditions import on_one_rank
from energy_patch.analysis.fates import Fate
from energy_patch.analysis.functions import is_none
from energy_patch.analysis.program import Program
from energy_patch.analysis.refs import Ref
from energy_patch.analysis.vocabulary import EXCHANGES
from energy_patch.syntax.nodes import last_name

Nodes = list[cst.CSTNode]


@dataclass(frozen=True)
class Uses:
    """All that a program does with one module; every list holds the nodes where it happens.

    A use that cannot be read is kept as `hidden`, and whoever asks decides what may hide there.
    """

    program: Program
    modules: set[Ref] = field(default_factory=set)
    wrapped: Nodes = field(default_factory=list)
    exchanged: Nodes = field(default_factory=list)
    saved: Nodes = field(default_factory=list)
    loaded: Nodes = field(default_factory=list)
    called: Nodes = field(default_factory=list)
    optimized: Nodes = field(default_factory=list)
    steps: Nodes = field(default_factory=list)
    hidden: Nodes = field(default_factory=list)

    @property
    def by_fate(self) -> dict[Fate, Nodes]:
        """The lists of those uses that are only noted."""
        return {
            "wrapped": self.wrapped,
            "exchanged": self.exchanged,
            "saved": self.saved,
            "loaded": self.loaded,
            "optimized": self.optimized,
            "stepped": self.steps,
        }

    def hidden_from_some(self) -> Nodes:
        """Uses out of sight that more than one rank reaches."""
        return [node for node in self.hidden if not on_one_rank(self.program, node)]


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

"""What a script's values are: one place that its parts are asked from."""

from __future__ import annotations

from collections.abc import Sequence

from energy_patch.agreement import Agreement
from energy_patch.locate.callers import Callers, Use
from energy_patch.locate.config_names import ConfigNames
from energy_patch.locate.dominance import Order
from energy_patch.syntax.tree import Tree


class Values:
    """Answers about one tree; nothing here edits or decides."""

    def __init__(self, tree: Tree, near: Sequence[Use] = ()) -> None:
        self.order = Order(tree)
        self.callers = Callers(tree)
        self.config = ConfigNames(tree, self.callers, self.order, near)
        self.ranks = Agreement(tree, self.callers, self.config)

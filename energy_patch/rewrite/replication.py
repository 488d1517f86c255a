"""The line that keeps the ranks one model, and what would keep it from its purpose."""

from __future__ import annotations

import re
from collections.abc import Sequence

from energy_patch.locate.facts import Call
from energy_patch.locate.written import Argument
from energy_patch.refusal import Refusal
from energy_patch.rewrite.draft import Draft
from energy_patch.rewrite.edits import Edit
from energy_patch.rewrite.insertions import line_edit
from energy_patch.syntax.places import LinePoint

_LONE_RANK = (
    "is computed only where a condition on the rank holds, but after the patch the ranks exchange what they have and "
    "would wait for each other for ever; compute the loss on every rank, or under torch.no_grad()"
)
TITLE = "the ranks' energy models are kept equal"
_DOTTED_NAME = re.compile(r"[^\W\d]\w*(?:\.[^\W\d]\w*)*")


def refuse_lone_rank(draft: Draft) -> None:
    """Refuse a loss that only some ranks compute: in a collective, each would wait for the others.

    Raises:
        Refusal: `unsupported`.
    """
    if not draft.strategy.function and not draft.replicates:
        return
    for call in draft.facts.calls:
        for line in call.rank_lines:
            raise Refusal("unsupported", f"the loss on line {call.line} {_LONE_RANK}", line=line)
    for lead in draft.facts.leads:
        for line in lead.rank_lines:
            refusal = Refusal(
                "unsupported", f"{lead.function} on line {lead.line} holds the loss and {_LONE_RANK}", line=line
            )
            raise refusal.about(lead.file) if lead.file else refusal


class Replication:
    """Keeps the ranks one model: a line before each call, or `replicate` around a call's first argument."""

    def __init__(self, draft: Draft) -> None:
        self.draft = draft
        self.lines: list[tuple[Call, str]] = []

    def edits(self, call: Call, model: Argument) -> list[Edit]:
        """Put a line before a call, and before what else uses the model on the way to it.

        Where no line can stand, the edits around the call's first argument are returned.
        """
        function = self.draft.imported("ranks", "replicate")
        start = call.before.offset if call.before is not None and not call.is_conditional else call.function.start
        is_bound_between = any(start <= at < call.function.start for at in call.model_bound)
        if start == call.function.start or is_bound_between or not _DOTTED_NAME.fullmatch(model.value):
            end = model.span.end
            return [Edit(end - len(model.value), end - len(model.value), f"{function}("), Edit(end, end, ")")]
        if (point := self._point(call, model.value)) is not None:
            self.lines.append((call, model.value))
            self.draft.add(line_edit(self.draft.source, point, [f"{function}({model.value})"]), TITLE)
        return []

    def _point(self, call: Call, model: str) -> LinePoint | None:
        """Where a line stands for a call; None where one before an earlier call serves the same model."""
        serving = [other for other, name in self.lines if name == model and _serves(other, call)]
        if not serving:
            return call.before_model
        # Once a model is replicated, a second line does nothing.
        return call.before_exposed if _is_between(call.model_exposed, serving[-1], call) else None


def runs_before(other: Call, call: Call) -> bool:
    """Whether a line before an earlier call has always run before this one: it stands in a block around it."""
    return other.enclosing is call.enclosing and call.block[-len(other.block) :] == other.block


def _serves(other: Call, call: Call) -> bool:
    """Whether a line before an earlier call serves this one, unless what is called in between changes the model."""
    return runs_before(other, call) and not _is_between(call.model_bound, other, call)


def _is_between(offsets: Sequence[int], other: Call, call: Call) -> bool:
    """Whether something runs between an earlier call and this one; what a loop runs may come before each round."""
    start = other.function.start
    ends = [loop.end for loop in call.loops if not loop.start <= start < loop.end]
    return any(start < at < max([call.function.start, *ends]) for at in offsets)

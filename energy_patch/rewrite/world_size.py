"""The number of ranks, as a line before the call of the loss."""

from __future__ import annotations

from energy_patch.locate.facts import Call
from energy_patch.rewrite.draft import Draft, free_name
from energy_patch.rewrite.insertions import line_edit
from energy_patch.rewrite.replication import runs_before

_WORLD_SIZE = "{0}.get_world_size() if {0}.is_initialized() else 1"


class WorldSize:
    """Gets the world size once for the calls that one line can serve; inline where no line can stand."""

    def __init__(self, draft: Draft) -> None:
        self.draft = draft
        self.lines: list[Call] = []

    def at(self, call: Call) -> str:
        """The expression to pass."""
        expression = _WORLD_SIZE.format(self._distributed(call))
        if call.before is None:
            return expression
        name = free_name("world_size", call.occupied)
        if not any(runs_before(other, call) for other in self.lines):
            self.lines.append(call)
            self.draft.names.add(name)
            line = f"{name} = {expression}"
            self.draft.add(line_edit(self.draft.source, call.before, [line]), "get the world size")
        return name

    def _distributed(self, call: Call) -> str:
        """How `torch.distributed` is written at a call; imported under a free name if the script lacks it there."""
        draft = self.draft
        spelling = draft.facts.distributed
        if spelling is not None and spelling.split(".")[0] not in call.local_names:
            return spelling
        if draft.distributed_import is None:
            draft.distributed_import = free_name("dist", draft.facts.identifiers, "torch_distributed")
            draft.names.add(draft.distributed_import)
        return draft.distributed_import

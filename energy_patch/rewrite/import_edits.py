"""The imports that a patch needs."""

from __future__ import annotations

from energy_patch.locate.written import listed
from energy_patch.refusal import Refusal
from energy_patch.rewrite.draft import Draft
from energy_patch.rewrite.insertions import line_edit
from energy_patch.syntax.places import LinePoint


def add_imports(draft: Draft) -> None:
    """Import lines for all names that other edits use.

    Raises:
        Refusal: `unsupported`, where a module calls the loss in a place that no import can stand before.
    """
    lines = []
    if draft.distributed_import is not None:
        lines.append(("import torch.distributed", f"import torch.distributed as {draft.distributed_import}"))
    for module, names in sorted(draft.imports.items()):
        listing = sorted(names)
        lines.append((f"import {listed(listing)}", f"from {module} import {', '.join(listing)}"))
    for point in _points(draft):
        for title, line in lines:
            draft.add(line_edit(draft.source, point, [line]), title)


def _points(draft: Draft) -> list[LinePoint]:
    """Where imports stand: at the top, or, in a module that others may import too, in each function that calls."""
    if not draft.facts.is_reached:
        return [draft.facts.imports]
    points: dict[int, LinePoint] = {}
    for call in draft.facts.calls:
        if call.body is None:
            message = (
                "the loss is called where no import can stand beside it, and other programs may load this module; "
                "put the call into a function with lines of its own"
            )
            raise Refusal("unsupported", message, line=call.line)
        points[call.body.offset] = call.body
    return list(points.values())

"""The proof of a plan before anything is written."""

from __future__ import annotations

from energy_patch.refusal import Refusal
from energy_patch.rewrite.edits import apply_edits, invert_edits
from energy_patch.rewrite.plan import Plan
from energy_patch.syntax.source import check_compiles, decode_source


def prove(plan: Plan) -> bytes:
    """The patched bytes, after showing that they can be taken back exactly and that Python accepts them.

    Raises:
        Refusal: `unsupported`, if either fails; that is a fault of energy-patch, said so.
    """
    source = plan.source
    patched = plan.patched_text
    try:
        raw = source.encode(patched)
    except UnicodeEncodeError:
        message = f"the script's encoding ({source.encoding}) cannot hold the patch; save it as UTF-8"
        raise Refusal("unsupported", message) from None
    result = decode_source(source.path, raw)
    inverse = invert_edits(source.text, [planned.edit for planned in plan.edits])
    if result.text != patched or source.encode(apply_edits(result.text, inverse)) != source.raw:
        raise Refusal("unsupported", "the patch could not be proven reversible here; please report the script")
    try:
        check_compiles(result)
    except Refusal as refusal:
        message = f"the patched script would not compile ({refusal.message}); please report the script"
        raise Refusal("unsupported", message, line=refusal.line) from None
    return raw

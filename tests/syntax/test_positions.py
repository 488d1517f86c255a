"""What leans on LibCST's private parts: each is asked for by itself, so that a new LibCST says which one has moved."""

from __future__ import annotations

import inspect

import libcst as cst
import pytest
from libcst.metadata import PositionProvider

TEXT = 'x = 1\n\n\n# above\ndef f(a):\n    return "é" + a  # 上\n'


def test_libcst_still_has_the_parts_that_positions_are_read_by() -> None:
    moved = []
    if not hasattr(PositionProvider(), "_computed"):
        moved.append("PositionProvider._computed")
    if not hasattr(cst.Pass, "_codegen"):
        moved.append("CSTNode._codegen")
    try:
        from libcst.metadata.position_provider import PositionProvidingCodegenState
    except ImportError:
        moved.append("libcst.metadata.position_provider.PositionProvidingCodegenState")
    else:
        wanted = {"default_indent", "default_newline", "provider"}
        if not wanted <= {*inspect.signature(PositionProvidingCodegenState).parameters}:
            moved.append("the arguments of PositionProvidingCodegenState")
    assert not moved, f"LibCST {cst.LIBCST_VERSION} has moved {', '.join(moved)}: see energy_patch/syntax/positions.py"


def test_positions_are_libcsts_own() -> None:
    from energy_patch.syntax.positions import Positions  # a part that has moved is told by the test above

    module = cst.parse_module(TEXT)
    whole = cst.MetadataWrapper(module, unsafe_skip_copy=True).resolve(PositionProvider)
    positions = Positions(module, TEXT.split("\n"))
    positions.print(module.body[0], 1)
    positions.print(module.body[1], 5)
    assert not positions.inexact_lines
    seen = {node: positions.get(node) for node in whole if positions.get(node) is not None}
    assert len(seen) > 20
    for node, found in seen.items():
        assert found == whole[node], node


@pytest.mark.parametrize("text", ["try:\n    x\nexcept E :\n    y\n", "x = 1;  y\n"])
def test_a_line_that_is_printed_otherwise_is_known(text: str) -> None:
    from energy_patch.syntax.positions import Positions

    module = cst.parse_module(text)
    positions = Positions(module, text.split("\n"))
    positions.print(module.body[0], 1)
    assert positions.inexact_lines == ({3} if "except" in text else set())

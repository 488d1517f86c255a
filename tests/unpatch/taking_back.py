"""The patched training script of these tests, and what undoing its patch gives."""

from __future__ import annotations

import pytest

from energy_patch.refusal import Refusal
from energy_patch.unpatch.undo import undo
from tests.scripts.marked import TRAINING, Marked, read_marked

PATCH = read_marked(TRAINING)


def edited(old: str, new: str) -> str:
    """The patched script after an edit, which changes something."""
    assert old in PATCH.after
    return PATCH.after.replace(old, new)


def take_back(text: str, patch: Marked = PATCH) -> str:
    return undo(patch.source(text), patch.entry).text


def refuse(text: str, patch: Marked = PATCH) -> Refusal:
    with pytest.raises(Refusal) as caught:
        undo(patch.source(text), patch.entry)
    assert caught.value.reason == "patch-modified"
    assert caught.value.line is None or 1 <= caught.value.line <= len(text.splitlines())
    return caught.value

"""The folder of a training script and its modules."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.diagnose.scripts import MODULE, TRAIN_UTILS


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "energy").mkdir()
    (tmp_path / "energy" / "energy_model.py").write_text(MODULE, "utf-8")
    (tmp_path / "train_utils.py").write_text(TRAIN_UTILS, "utf-8")
    return tmp_path

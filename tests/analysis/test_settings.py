"""The fields of the class that holds the settings."""

from __future__ import annotations

from pathlib import Path

from energy_patch.analysis.calls import CallGraph
from energy_patch.analysis.settings import Settings
from tests.analysis.programs import program


def test_settings_of_another_file(tmp_path: Path) -> None:
    found = program(
        tmp_path,
        "from settings import Config\n\n\ndef train(cfg: Config):\n    return cfg.tau\n",
        settings="from dataclasses import dataclass\n\n\n"
        "@dataclass\nclass Config:\n    tau: float = 0.5\n    steps: int = 1_000\n",
    )
    CallGraph(found)
    settings = Settings(found)
    assert [(field.name, field.number, field.count) for field in settings.fields] == [
        ("tau", 0.5, None),
        ("steps", 1000.0, 1000),
    ]

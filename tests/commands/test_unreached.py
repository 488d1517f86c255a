"""What a patch does not reach, and settings that mean the same: said once in the summary."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import Command

SCRIPT = """\
from dataclasses import dataclass
from energy.energy_model import energy_inbatch_swap_infonce


@dataclass
class Config:
    neg_strategy: str = "both"
    energy_temperature: float = 0.5


def train(cfg: Config, m, h, a):
    if {test}:
        loss = {first}
    else:
        loss = {second}
    return loss
"""
LOSS = "energy_inbatch_swap_infonce(m, h, a)[0]"
LINE = 16  # of the condition in the patched script


def notes(text: str, folder: Path, energy_patch: Command) -> list[str]:
    script = folder / "train.py"
    script.write_text(text)
    ran = energy_patch("apply", script)
    assert ran.exit_code == 0, ran.stderr
    return [line.removeprefix("  - ") for line in ran.stderr.splitlines() if line.startswith("  - ")]


@pytest.mark.parametrize(
    ("test", "first", "second", "words"),
    [
        (
            'cfg.neg_strategy == "structured"',
            "0",
            LOSS,
            'does not come to the patched loss where `cfg.neg_strategy == "structured"` holds',
        ),
        (
            'cfg.neg_strategy in ("both", "batch")',
            LOSS,
            "0",
            'comes to the patched loss only where `cfg.neg_strategy in ("both", "batch")` holds',
        ),
        ('cfg.neg_strategy == "structured"', LOSS, LOSS, ""),
        ("m is not None", LOSS, "0", ""),
        ("step > 3", LOSS, "0", ""),
    ],
)
def test_branches(test: str, first: str, second: str, words: str, tmp_path: Path, energy_patch: Command) -> None:
    text = SCRIPT.format(test=test, first=first, second=second)
    said = [note for note in notes(text, tmp_path, energy_patch) if "to the patched loss" in note]
    assert said == ([f"line {LINE}: a run {words}"] if words else [])


def test_a_field_of_the_same_meaning_is_named(tmp_path: Path, energy_patch: Command) -> None:
    text = SCRIPT.format(test="h", first=LOSS, second="0")
    said = "line 11: the config has energy_temperature = 0.5, which the call of the loss does not pass; the loss reads "
    assert f"{said}energy_tau = 0.07" in notes(text, tmp_path, energy_patch)
    (other_folder := tmp_path / "other").mkdir()
    other = text.replace("energy_temperature", "energy_temperament")
    assert not any("does not pass" in note for note in notes(other, other_folder, energy_patch))

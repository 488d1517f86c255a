"""Switching strategies: in place, to the very bytes of a fresh apply, and back to the original's."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from energy_patch.strategies.registry import strategies
from tests.conftest import Command, snapshot

SCRIPT = b"""\
from dataclasses import dataclass
from energy.energy_model import EnergyModel, energy_inbatch_swap_infonce

@dataclass
class Config:
    batch_size: int = 3               # Per rank
    grad_accumulation_steps: int = 1

def forward(energy_model, h, a, mask, layer_actions):
    return energy_inbatch_swap_infonce(energy_model, h, a, mask)[0]

def main(cfg: Config):
    energy_model = EnergyModel()
    optimizer = AdamW(energy_model.parameters())
    for step, batch in enumerate(loader):
        forward(energy_model, *batch).backward()
        optimizer.step()
"""


@pytest.mark.parametrize(("first", "second"), list(itertools.permutations(strategies(), 2)))
def test_a_switch_equals_a_fresh_apply(first: str, second: str, tmp_path: Path, energy_patch: Command) -> None:
    switched, fresh = tmp_path / "switched", tmp_path / "fresh"
    for folder, names in ((switched, (first, second)), (fresh, (second,))):
        folder.mkdir()
        script = folder / "train.py"
        script.write_bytes(SCRIPT)
        for name in names:
            assert energy_patch("apply", "--strategy", name, script).exit_code == 0
    assert snapshot(switched) == snapshot(fresh)
    assert energy_patch("revert", switched / "train.py").exit_code == 0
    assert snapshot(switched) == {"train.py": SCRIPT}


def test_any_option_is_a_full_new_set(tmp_path: Path, energy_patch: Command) -> None:
    script = tmp_path / "train.py"
    script.write_bytes(SCRIPT)
    energy_patch("apply", "--strategy", "layer", "--tau", "0.5", "--num-negatives", "4", script)
    assert energy_patch("apply", script).stderr.startswith(f"{script}: already applied")
    same = energy_patch("apply", "--strategy", "layer", "--tau", "0.5", "--num-negatives", "4", script)
    assert same.stderr.startswith(f"{script}: already applied")
    ran = energy_patch("apply", "--tau", "0.4", script)
    assert "switched from strategy layer" in ran.stderr
    assert energy_patch("status", script).stderr.startswith(f"{script}: already applied, strategy global")
    text = script.read_text("utf-8")
    assert "energy_tau: float = 0.4" in text
    assert "energy_num_negatives" not in text


def test_a_switch_keeps_the_users_edits(tmp_path: Path, energy_patch: Command) -> None:
    script = tmp_path / "train.py"
    script.write_bytes(SCRIPT)
    energy_patch("apply", script)
    script.write_bytes(script.read_bytes() + b"\n# mine\n")
    assert energy_patch("apply", "--strategy", "queue", script).exit_code == 0
    assert energy_patch("revert", script).exit_code == 0
    assert snapshot(tmp_path) == {"train.py": SCRIPT + b"\n# mine\n"}

"""The options that a patch adds to a script's own argument parser are tuned, kept and taken back like config fields."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import Command

SCRIPT = """\
import argparse
from energy.energy_model import energy_inbatch_swap_infonce

parser = argparse.ArgumentParser()
parser.add_argument("--lr", type=float, default=1e-3)
args = parser.parse_args()
loss = energy_inbatch_swap_infonce(m, h, a)[0]
"""
OPTION = 'parser.add_argument("--energy_tau", type=float, default={}, help="'


def test_a_tuned_default_is_kept_and_taken_back(tmp_path: Path, energy_patch: Command) -> None:
    script = tmp_path / "train.py"
    script.write_text(SCRIPT)
    assert energy_patch("apply", script).exit_code == 0
    patched = script.read_text()
    assert OPTION.format("0.07") in patched
    assert "tau=args.energy_tau" in patched

    script.write_text(patched.replace("default=0.07", "default=0.05"))
    assert energy_patch("apply", "--strategy", "queue", script).exit_code == 0
    assert OPTION.format("0.05") in script.read_text()
    assert 'parser.add_argument("--energy_queue_size", type=int, default=256, help="' in script.read_text()

    assert energy_patch("apply", "--tau", "0.1", script).exit_code == 0
    assert OPTION.format("0.1") in script.read_text()
    assert energy_patch("revert", script).exit_code == 0
    assert script.read_text() == SCRIPT


def test_an_option_below_the_parsing_is_no_place(tmp_path: Path, energy_patch: Command) -> None:
    script = tmp_path / "train.py"
    lines = SCRIPT.splitlines(keepends=True)
    script.write_text("".join([*lines[:4], lines[5], lines[4], *lines[6:]]))
    assert energy_patch("apply", script).exit_code == 0
    assert "tau=0.07" in script.read_text()
    assert "--energy_tau" not in script.read_text()


@pytest.mark.parametrize("given", ["type=float", "type=float, default=None"])
def test_an_own_option_that_may_be_none_is_no_temperature(given: str, tmp_path: Path, energy_patch: Command) -> None:
    script = tmp_path / "train.py"
    text = SCRIPT.replace('"--lr", type=float, default=1e-3', f'"--energy-tau", {given}')
    script.write_text(text)
    answer = energy_patch("apply", "--json", script).json["scripts"][0]
    assert (answer["reason"], answer["line"]) == ("conflict", 5)
    assert "energy_tau: float | None, which is no float" in answer["message"]
    assert script.read_text() == text


@pytest.mark.parametrize("option", ['"--energy-tau", type=float, required=True', '"energy_tau", type=float'])
def test_an_own_option_that_must_be_given_is_read(option: str, tmp_path: Path, energy_patch: Command) -> None:
    script = tmp_path / "train.py"
    script.write_text(SCRIPT.replace('"--lr", type=float, default=1e-3', option))
    assert energy_patch("apply", script).exit_code == 0
    assert "tau=args.energy_tau" in script.read_text()

"""Switching strategies: in place, to the very bytes of a fresh apply, and back to the original's."""

from __future__ import annotations

import itertools
import re
import subprocess
import sys
from pathlib import Path

import pytest

from energy_patch.strategies.registry import strategies
from tests.conftest import Command, Ran, snapshot

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


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "train.py"
    path.write_bytes(SCRIPT)
    return path


STYLES = [["--line-length=60"], ["--config=indent-width=2", "--config=format.quote-style='single'"]]


@pytest.mark.parametrize("style", STYLES)
def test_a_formatter_that_went_over_the_modules_stops_nothing(
    style: list[str], script: Path, energy_patch: Command
) -> None:
    assert energy_patch("apply", script).exit_code == 0
    modules = script.with_name("energy_losses")
    subprocess.run([sys.executable, "-m", "ruff", "format", "--isolated", "--quiet", *style, modules], check=True)
    formatted = snapshot(modules)
    assert "edited" not in energy_patch("status", script).stdout.decode()
    assert energy_patch("apply", "--check", script).exit_code == 0
    assert energy_patch("apply", "--tau", "0.1", script).exit_code == 0
    assert energy_patch("apply", "--strategy", "queue", script).exit_code == 0
    now = snapshot(modules)
    assert all(now[name] == formatted[name] for name in now if name in formatted and name != "patch.json")
    assert energy_patch("revert", script).exit_code == 0
    assert snapshot(script.parent) == {"train.py": SCRIPT}


def told(ran: Ran) -> list[str]:
    """The notes of a summary."""
    return [line.removeprefix("  - ") for line in ran.stderr.splitlines() if line.startswith("  - ")]


def test_an_option_alone_changes_the_strategy_in_place(script: Path, energy_patch: Command) -> None:
    energy_patch("apply", "--strategy", "queue", "--tau", "0.5", "--queue-size", "32", script)
    for again in ([], ["--tau", "0.5"], ["--strategy", "queue"], ["--queue-size", "32"]):
        assert energy_patch("apply", *again, script).stderr.startswith(f"{script}: already patched")
    ran = energy_patch("apply", "--tau", "0.4", script)
    assert "strategy queue --queue-size 32 --tau 0.4" in ran.stderr
    assert "--queue-size 32 is kept" in told(ran)
    assert "switched" not in ran.stderr
    text = script.read_text("utf-8")
    assert "energy_tau: float = 0.4" in text
    assert "energy_queue_size: int = 32" in text
    fresh = script.with_name("fresh.py")
    fresh.write_bytes(SCRIPT)
    energy_patch("apply", "--strategy", "queue", "--tau", "0.4", "--queue-size", "32", fresh)
    assert fresh.read_bytes() == script.read_bytes()


def test_a_switch_carries_over_what_both_have(script: Path, energy_patch: Command) -> None:
    energy_patch("apply", "--strategy", "queue", "--tau", "0.5", "--queue-size", "32", "--no-sync", script)
    ran = energy_patch("apply", "--strategy", "layer", script)
    assert "strategy layer --tau 0.5 --no-sync" in ran.stderr
    notes = told(ran)
    assert "switched from strategy queue to layer" in notes
    assert "--tau 0.5 is kept" in notes
    assert "--queue-size 32 is gone: strategy layer has no such option" in notes
    assert "--no-sync is kept; --sync takes it back" in notes
    assert b"replicate" not in script.read_bytes()
    assert energy_patch("apply", "--sync", script).exit_code == 0
    assert b"replicate(energy_model)" in script.read_bytes()


def test_a_tuned_value_wins_over_the_recorded_one(script: Path, energy_patch: Command) -> None:
    energy_patch("apply", "--strategy", "queue", "--tau", "0.5", script)
    tuned = script.read_text("utf-8").replace("energy_tau: float = 0.5", "energy_tau: float = 1e-1")
    tuned = tuned.replace("energy_queue_size: int = 256", "energy_queue_size: int = 2 * 64")
    script.write_text(tuned, "utf-8")
    assert energy_patch("apply", "--tau", "0.1", script).stderr.startswith(f"{script}: already patched")
    ran = energy_patch("apply", "--min-distance", "0.2", script)
    assert ran.exit_code == 0, ran.stderr
    assert "energy_tau = 1e-1, which you set in the script, is kept, not the 0.5 that apply was given" in told(ran)
    assert "energy_queue_size = 2 * 64, which you set in the script, is kept" in told(ran)
    text = script.read_text("utf-8")
    assert "energy_tau: float = 1e-1" in text
    assert "energy_queue_size: int = 2 * 64" in text
    assert "energy_min_distance: float = 0.2" in text

    ran = energy_patch("apply", "--strategy", "global", "--tau", "0.3", script)
    assert "--min-distance 0.2 is kept" in told(ran)
    gone = "energy_queue_size = 2 * 64, which you had set in the script, is gone: strategy global has no --queue-size"
    assert gone in told(ran)
    assert "energy_tau: float = 0.3" in script.read_text("utf-8")
    assert energy_patch("revert", script).exit_code == 0
    assert script.read_bytes() == SCRIPT


def test_a_tuned_parameter_is_kept_where_it_stands(script: Path, energy_patch: Command) -> None:
    """The field keeps its own value: the parameter's default holds only where no config is in scope."""
    energy_patch("apply", "--strategy", "queue", script)
    tuned = script.read_text("utf-8").replace("energy_tau=0.07", "energy_tau=0.2")
    script.write_text(tuned.replace("energy_queue_size=256", "energy_queue_size=2 * 64"), "utf-8")
    for options in (("--min-distance", "0.2"), ("--strategy", "hybrid"), ("--strategy", "queue")):
        ran = energy_patch("apply", *options, script)
        assert ran.exit_code == 0, ran.stderr
        assert "forward's energy_tau = 0.2, which you set in the script, is kept" in told(ran)
        text = script.read_text("utf-8")
        assert "energy_tau=0.2," in text
        assert "energy_tau: float = 0.07" in text
        if "--min-distance" in options:
            assert "energy_queue_size=2 * 64" in text
            assert "energy_queue_size: int = 256" in text
    ran = energy_patch("apply", "--tau", "0.4", script)
    assert "--tau 0.4 replaces forward's energy_tau = 0.2 of the script" in told(ran)
    assert "energy_tau=0.4," in script.read_text("utf-8")
    assert energy_patch("revert", script).exit_code == 0
    assert script.read_bytes() == SCRIPT


def test_a_parameter_follows_its_tuned_field(script: Path, energy_patch: Command) -> None:
    energy_patch("apply", script)
    script.write_bytes(script.read_bytes().replace(b"energy_tau: float = 0.07", b"energy_tau: float = 0.2"))
    for strategy in ("queue", "layer"):
        ran = energy_patch("apply", "--strategy", strategy, script)
        assert "forward's" not in ran.stderr
        assert "energy_tau=0.2" in script.read_text("utf-8")


@pytest.mark.parametrize(("first", "second"), list(itertools.permutations(strategies(), 2)))
def test_there_and_back_with_tuned_values(first: str, second: str, script: Path, energy_patch: Command) -> None:
    """What both strategies have is as the user tuned it; in the end the original's bytes are back."""
    assert energy_patch("apply", "--strategy", first, script).exit_code == 0
    tuned = re.sub(r"\b(energy_\w+: (?:int|float) = )(\d)", r"\g<1>1\2", script.read_text("utf-8"))
    script.write_text(re.sub(r"\b(energy_\w+=)(\d)", r"\g<1>2\2", tuned), "utf-8")
    before = dict(re.findall(r"\b(energy_\w+(?:: \w+ = |=))(\d[\d.]*)", script.read_text("utf-8")))
    for name in (second, first):
        ran = energy_patch("apply", "--strategy", name, script)
        assert ran.exit_code == 0, ran.stderr
        now = dict(re.findall(r"\b(energy_\w+(?:: \w+ = |=))(\d[\d.]*)", script.read_text("utf-8")))
        options = {option.field for option in strategies()[name].options} & {
            option.field for option in strategies()[second].options
        }
        common = {key: value for key, value in before.items() if re.split("[:=]", key)[0] in options}
        assert {key: now[key] for key in common} == common
    assert energy_patch("revert", script).exit_code == 0
    assert script.read_bytes() == SCRIPT


def test_tuned_batch_sizes_are_kept(script: Path, energy_patch: Command) -> None:
    energy_patch("apply", "--strategy", "local-batch", script)
    script.write_bytes(script.read_bytes().replace(b"batch_size: int = 6", b"batch_size: int = 12"))
    ran = energy_patch("apply", "--grad-accumulation-steps", "3", script)
    assert ran.exit_code == 0, ran.stderr
    assert b"batch_size: int = 12 " in script.read_bytes()
    assert b"grad_accumulation_steps: int = 3" in script.read_bytes()


def test_an_option_that_the_strategy_in_place_does_not_have(script: Path, energy_patch: Command) -> None:
    fresh = energy_patch("apply", "--queue-size", "32", script)
    assert fresh.exit_code == 2
    assert "--queue-size is not an option of strategy global (it has --tau, --min-distance)" in fresh.stderr
    energy_patch("apply", "--strategy", "layer", script)
    before = snapshot(script.parent)
    ran = energy_patch("apply", "--queue-size", "32", script)
    assert (ran.exit_code, ran.stdout) == (2, b"")
    assert "strategy layer, with which the script is patched" in ran.stderr
    assert "for --queue-size add --strategy queue" in ran.stderr
    assert snapshot(script.parent) == before
    assert energy_patch("apply", "--queue-size", "32", "--strategy", "queue", script).exit_code == 0


def test_lines_in_one_report_mean_one_text(script: Path, energy_patch: Command) -> None:
    """Edits and notes of a summary: the patched script's. A refusal's: those of the script as it is."""
    script.write_bytes(SCRIPT + b"\ndef validate(batch):\n    forward(None, *batch)\n")
    ran = energy_patch("apply", script)
    lines = script.read_text("utf-8").splitlines()
    found = re.findall(r"line +(\d+)(?:: validate calls|  main passes)", ran.stderr)
    assert len(found) == 2
    passes, validates = (int(number) for number in found)
    assert lines[passes - 1].strip().startswith("forward(energy_model, *batch")
    assert lines[validates - 1].strip() == "forward(None, *batch)"
    moved = b"# one more line\n\n" + script.read_bytes()
    script.write_bytes(moved)
    assert f"line {passes + 2}  main passes energy_tau" in energy_patch("status", script).stdout.decode()
    script.write_bytes(
        moved.replace(b"h, a, mask, layer_actions)", b"h, a, mask)").replace(
            b"h, a, mask, layer_actions, en", b"h, a, mask, en"
        )
    )
    ran = energy_patch("apply", "--strategy", "layer", "--json", script)
    (answer,) = ran.json["scripts"]
    assert answer["outcome"] == "refused"
    assert "energy_inbatch_swap_infonce" in script.read_text("utf-8").splitlines()[answer["line"] - 1]


def test_a_switch_keeps_the_users_edits(tmp_path: Path, energy_patch: Command) -> None:
    script = tmp_path / "train.py"
    script.write_bytes(SCRIPT)
    energy_patch("apply", script)
    script.write_bytes(script.read_bytes() + b"\n# mine\n")
    assert energy_patch("apply", "--strategy", "queue", script).exit_code == 0
    assert energy_patch("revert", script).exit_code == 0
    assert snapshot(tmp_path) == {"train.py": SCRIPT + b"\n# mine\n"}

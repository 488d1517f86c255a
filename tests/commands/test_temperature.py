"""One temperature for a run, and what the summary says of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import Command, snapshot
from tests.scripts.folder_cases import SCRIPT, folder_cases, read_case, write_files

MEASURED = "0.252 at 0.5, 0.381 at 0.3, 0.844 at 0.1, 0.871 at 0.05"
IMPORT = "from energy.energy_model import energy_inbatch_swap_infonce\n"


def training(more: str = "", parameters: str = "", above: str = "") -> str:
    """A script that calls the loss on line 5, or further down with lines above."""
    call = f"energy_inbatch_swap_infonce(m, h, a, mask{more})"
    return f"{IMPORT}{above}\ndef train(m, h, a, mask{parameters}):\n    return {call}\n"


def told(script: Path, energy_patch: Command, *options: str) -> list[str]:
    ran = energy_patch("apply", "--dry-run", *options, script)
    assert ran.exit_code == 0, ran.stderr
    return [line.removeprefix("  - ") for line in ran.stderr.splitlines() if line.startswith("  - ")]


@pytest.fixture
def script(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    path = tmp_path / SCRIPT
    path.write_text(getattr(request, "param", training()))
    return path


def test_two_lines_say_what_was_what_is_and_why(script: Path, energy_patch: Command) -> None:
    temperature, curve = told(script, energy_patch)
    assert temperature.startswith("temperature: 0.5 (the original's default) becomes 0.07")
    assert "--tau 0.5 keeps the old one" in temperature
    assert MEASURED in temperature
    assert "8 ranks x 3 start near ln 24 = 3.18 instead of ln 3 = 1.10" in curve
    assert "top1 or loss_over_log_n" in curve


def test_the_curve_starts_where_the_options_make_it_start(script: Path, energy_patch: Command) -> None:
    assert "near ln 280 = 5.63" in told(script, energy_patch, "--strategy", "queue")[1]
    assert "near ln 32 = 3.47" in told(script, energy_patch, "--strategy", "queue", "--queue-size", "8")[1]


def test_the_old_temperature_asked_for(script: Path, energy_patch: Command) -> None:
    temperature, _ = told(script, energy_patch, "--tau", "0.5")
    assert temperature.startswith("temperature: 0.5 as before")
    assert MEASURED in temperature


def test_local_batch_changes_none(script: Path, energy_patch: Command) -> None:
    config = "batch_size: int = 8\n    grad_accumulation_steps: int = 1\n"
    above = f"from dataclasses import dataclass\n@dataclass\nclass Config:\n    {config}\ndef main(cfg: Config): ...\n"
    script.write_text(training(", tau=0.3", above=above))
    notes = told(script, energy_patch, "--strategy", "local-batch")
    assert sum("temperature" in note for note in notes) == 1
    assert "the temperature stays 0.3, since strategy local-batch does not change it" in notes[0]
    assert not any("curve" in note for note in notes)


@pytest.mark.parametrize(
    ("script", "tau", "origin", "cure"),
    [
        (training(", tau=0.5"), "0.5", "", "write tau=0.07 on line 9"),
        (training(", tau=T", above="T = 0.5\n"), "T", " (T = 0.5, line 5)", "set T to 0.07 on line 5"),
        (training(", tau=T", above="T = 0.05\n"), "T", " (T = 0.05, line 5)", ""),
        (training(", tau=T", above="T = load()\n"), "T", " (T, line 5)", ""),
        (training(", 0.3"), "0.3", "", "write tau=0.07 on line 9"),
        (
            training(", tau=tau", ", tau=0.5"),
            "tau",
            " (a parameter of train, 0.5 by default, line 6)",
            "pass tau=0.07 to train, or make it the default on line 6",
        ),
        (
            training(", tau=tau", ", tau=0.5") + "\n\ntrain(m, h, a, mask, 0.2)\n",
            "tau",
            " (a parameter of train, 0.5 by default, line 6); line 12 passes tau=0.2",
            "",
        ),
        (training(", tau=T[0]", above="T = [0.5]\n"), "T[0]", "", ""),
    ],
    indirect=["script"],
)
def test_a_call_keeps_what_it_passes(script: Path, tau: str, origin: str, cure: str, energy_patch: Command) -> None:
    kept, *others = told(script, energy_patch)
    _, _, text = kept.partition(": ")
    assert text == f"the temperature stays {tau}, as the call passes it{origin}"
    measured = [note for note in others if MEASURED in note]
    assert len(measured) == bool(cure)
    assert all(note.startswith(f"{cure} for a lower temperature") for note in measured)


def test_temperatures_that_differ_are_said_to(script: Path, energy_patch: Command) -> None:
    loss = "energy_inbatch_swap_infonce(m, h, a, mask{})"
    losses = ", ".join(loss.format(more) for more in (", tau=0.2", ", tau=0.3", ""))
    script.write_text(f"{IMPORT}def train(m, h, a, mask):\n    return {losses}\n")
    notes = told(script, energy_patch)
    assert any("different temperatures (line 8: 0.2, line 8: 0.3); line 8 passes none" in note for note in notes)
    script.write_text(script.read_text().replace("0.3", "0.2"))
    assert not any("different temperatures" in note for note in told(script, energy_patch))


@pytest.mark.parametrize(
    ("case", "words"),
    [
        ("labs_composite_loss", "the temperature stays tau, as the call passes it (a parameter of energy_"),
        ("labs_composite_loss", "0.5 by default, line 29); train.py passes tau=cfg.tau"),
        ("labs_script_and_module", "losses.py: line 10: the temperature is 0.2, as the call on train.py passes it"),
    ],
)
def test_of_a_module(case: str, words: str, tmp_path: Path, energy_patch: Command) -> None:
    (path,) = folder_cases(f"{case}.py")
    write_files(tmp_path, read_case(path).before)
    assert any(words in note for note in told(tmp_path / SCRIPT, energy_patch))


def test_a_second_temperature_is_refused_with_what_to_do(script: Path, energy_patch: Command) -> None:
    script.write_text(training(", tau=T", above="T = 0.5\n"))
    before = snapshot(script.parent)
    ran = energy_patch("apply", "--tau", "0.3", "--json", script)
    (answer,) = ran.json["scripts"]
    assert (ran.exit_code, answer["reason"], answer["line"]) == (1, "conflict", 5)
    assert answer["message"].endswith("leave --tau out and set T to 0.3 on line 2")
    assert snapshot(script.parent) == before

    script.write_text(script.read_text().replace("T = 0.5", "T = 0.3"))
    assert "the temperature stays T, as the call passes it (T = 0.3, line 5)" in told(script, energy_patch)[0]

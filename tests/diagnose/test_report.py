"""The numbers, the words, and one recommendation; scripts that cannot be read are one line."""

from __future__ import annotations

from pathlib import Path

import pytest

from energy_patch.diagnose.checks.temperature import MODEL
from tests.conftest import Command
from tests.diagnose.scripts import ALL, SCRIPT, changed, diagnosed, names, only, whats


def test_numbers(energy_patch: Command, folder: Path) -> None:
    answer = diagnosed(energy_patch, folder, SCRIPT)
    rows = {row["name"]: (row["negatives"], row["evaluations"], row["gathered_bytes"]) for row in answer["numbers"]}
    assert (answer["gpus"], answer["batch_size"], answer["action_bytes"]) == (8, 3, 8 * 7 * 4)
    assert rows["now"] == (2, 9, 0)
    assert rows["one GPU"] == (23, 576, 0)
    assert rows["global"] == (23, 72, 21 * 8 * 7 * 4)
    assert answer["recommendation"]["strategy"] == "global"
    assert answer["recommendation"]["blocked"] == ""
    assert "bf16 actions" in answer["action_bytes_from"]
    larger = diagnosed(energy_patch, folder, SCRIPT, "--gpus", 2, "--batch-size", 12)
    assert larger["numbers"][0]["negatives"] == 11
    assert larger["numbers"][1]["negatives"] == 23


def test_sizes_are_read_from_constants_and_from_settings_in_another_file(energy_patch: Command, folder: Path) -> None:
    (folder / "constants.py").write_text("NUM_ACTIONS_CHUNK = 5\nACTION_DIM = 4\n", "utf-8")
    (folder / "settings.py").write_text(
        "from dataclasses import dataclass\n\n\n@dataclass\nclass Config:\n    batch_size: int = 6\n", "utf-8"
    )
    start, end = SCRIPT.index("@dataclass\nclass Config"), SCRIPT.index("def load_checkpoint")
    text = SCRIPT.replace(SCRIPT[start:end], "").replace(
        "from policy import",
        "from constants import ACTION_DIM, NUM_ACTIONS_CHUNK\nfrom settings import Config\nfrom policy import",
    )
    answer = diagnosed(energy_patch, folder, text)
    assert (answer["batch_size"], answer["action_bytes"]) == (6, 5 * 4 * 4)
    assert answer["batch_size_from"] == "the config's default, settings.py, line 6"
    assert answer["action_bytes_from"].startswith("5 x 4 is read")


def test_text_reads_well(energy_patch: Command, folder: Path) -> None:
    script = folder / "finetune.py"
    script.write_text(SCRIPT, "utf-8")
    ran = energy_patch("diagnose", script)
    assert ran.stderr == ""
    text = ran.stdout.decode()
    assert f"{len(ALL)} findings" in text
    assert all(f"[{name}]" in text for name in ALL)
    assert "each sample is compared with 2 negatives" in text
    assert "called as `head.module`, bypassing DDP" in text
    assert "`energy-patch apply` puts `replicate(energy_model)`" in text
    assert f"energy-patch apply --strategy global {script}" in text
    lines = text.splitlines()
    assert max(len(line) for line in lines if str(folder) not in line) <= 100
    assert lines.index(next(line for line in lines if line.startswith("  layer "))) < lines.index(
        next(line for line in lines if line.startswith("  local-batch "))
    )


@pytest.mark.parametrize("word", [" mend", "slope", " meets", "optimiser", "synchronis", "order of the plan"])
def test_words_that_are_not_said(energy_patch: Command, folder: Path, word: str) -> None:
    script = folder / "finetune.py"
    script.write_text(SCRIPT, "utf-8")
    said = (
        energy_patch("diagnose", script).stdout.decode() + energy_patch("diagnose", "--gpus", 1, script).stdout.decode()
    )
    assert "negatives" in said
    assert word not in said


def test_a_recommendation_that_would_be_refused_says_so(energy_patch: Command, folder: Path) -> None:
    """A call that spreads its arguments cannot be patched; what is wrong is found all the same."""
    text = changed(SCRIPT, 'hidden, actions, batch["mask"]) => hidden, actions, *rest)')
    answer = diagnosed(energy_patch, folder, text)
    assert answer["recommendation"]["strategy"] == "global"
    assert "*" in answer["recommendation"]["blocked"]
    assert names(answer) == ALL
    script = folder / "finetune.py"
    assert "It would be refused as the script is now" in energy_patch("diagnose", script).stdout.decode()
    assert energy_patch("apply", script).exit_code == 1


def test_a_wrapped_model_is_shared(energy_patch: Command, folder: Path) -> None:
    text = changed(SCRIPT, "energy_model = EnergyModel(32, 7).to(device) => energy_model = FSDP(EnergyModel(32, 7))")
    answer = diagnosed(energy_patch, folder, text)
    assert names(answer) == ALL - {"separate-models"}
    assert answer["sharing"] == "shared"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"def broken(:\n", "is not valid Python"),
        (b"\x00\x01", "NUL bytes"),
        (b"\xff\xfe\xfd", "encoding"),
        (None, "no such"),
    ],
)
def test_unreadable(energy_patch: Command, tmp_path: Path, content: bytes | None, said: str) -> None:
    script = tmp_path / "finetune.py"
    if content is not None:
        script.write_bytes(content)
    ran = energy_patch("diagnose", script)
    assert ran.exit_code == 0
    assert len(ran.stdout.splitlines()) == 1
    assert said in ran.stdout.decode()
    assert energy_patch("diagnose", "--json", script).json["outcome"] == "refused"


def test_nested_deeply(energy_patch: Command, folder: Path) -> None:
    text = SCRIPT + "\n\ntotal = " + " + ".join(["1"] * 900) + "\n"
    assert names(diagnosed(energy_patch, folder, text)) == ALL


def test_usage(energy_patch: Command, tmp_path: Path) -> None:
    for option in ("--gpus", "--batch-size"):
        assert energy_patch("diagnose", option, 0, tmp_path / "x.py").exit_code == 2


def test_a_doubt_names_what_was_not_followed(energy_patch: Command, folder: Path) -> None:
    text = changed(
        SCRIPT,
        "            energy_optimizer.step()\n => "
        "            mystery(energy_model)\n            energy_optimizer.step()\n",
    )
    assert "what `mystery(energy_model)` does cannot be read" in whats(diagnosed(energy_patch, folder, text)["doubts"])


@pytest.mark.parametrize(("scale", "options"), [("2.0", ""), ("0.5", " --tau 0.018")])
def test_the_temperature_that_fits_is_recommended(
    energy_patch: Command, folder: Path, scale: str, options: str
) -> None:
    model = MODEL.replace("self.scale = 2.0", f"self.scale = {scale}")
    (folder / "energy" / "energy_model.py").write_text(model, "utf-8")
    answer = diagnosed(energy_patch, folder, SCRIPT)
    assert "temperature" in names(answer)
    command = answer["recommendation"]["command"]
    assert command == f"energy-patch apply --strategy global{options} {folder / 'finetune.py'}"
    assert energy_patch(*command.split()[1:]).exit_code == 0
    assert "temperature" not in names(only(energy_patch("diagnose", "--json", folder / "finetune.py")))

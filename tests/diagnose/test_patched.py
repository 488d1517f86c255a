"""A patched script: what the patch took care of is no finding any more, and lines are those of today's text."""

from __future__ import annotations

from pathlib import Path

from energy_patch.diagnose.checks.temperature import MODEL
from energy_patch.diagnose.examples import LOOP
from tests.conftest import Command
from tests.diagnose.scripts import ALL, SCRIPT, line_of, lines, names, only

PATCHED = ALL - {"local-negatives", "separate-models", "accumulation"}


def test_patched(energy_patch: Command, folder: Path) -> None:
    script = folder / "finetune.py"
    script.write_text(SCRIPT, "utf-8")
    assert energy_patch("apply", script).exit_code == 0
    answer = only(energy_patch("diagnose", "--json", script))
    text = script.read_text("utf-8")
    assert answer["patched"].startswith("strategy global")
    assert names(answer) == PATCHED
    assert lines(answer)["unpacking"] == line_of(text, "_, metrics = run_forward_pass")
    assert lines(answer)["resume"] == line_of(text, "energy_model = EnergyModel(")
    assert answer["recommendation"]["command"] is None
    placed = {item["what"]: item["line"] for item in answer["in_place"]}
    assert line_of(text, "replicate(energy_model)") in placed.values()
    assert energy_patch("diagnose", script).stdout.decode().startswith(f"{script}: patched, strategy global")


def test_patched_and_edited(energy_patch: Command, folder: Path) -> None:
    script = folder / "finetune.py"
    script.write_text(SCRIPT, "utf-8")
    assert energy_patch("apply", "--tau", "0.5", script).exit_code == 0
    text = script.read_text("utf-8").replace("import os\n", "# one\n# two\nimport os\n")
    script.write_text(text, "utf-8")
    answer = only(energy_patch("diagnose", "--json", script))
    assert answer["patched"].startswith("strategy global")
    assert lines(answer)["unpacking"] == line_of(text, "_, metrics = run_forward_pass")
    placed = {item["what"]: item["line"] for item in answer["in_place"]}
    assert placed["the ranks' energy models are kept equal"] == line_of(text, "replicate(energy_model)")
    assert f"line {line_of(text, '    batch_size: int')}" in answer["batch_size_from"]
    assert f"(line {line_of(text, 'torch.bfloat16')})" in answer["action_bytes_from"]
    assert "intact" in answer["notes"][0]


def test_patched_without_synchronization(energy_patch: Command, folder: Path) -> None:
    script = folder / "finetune.py"
    script.write_text(SCRIPT, "utf-8")
    assert energy_patch("apply", "--no-sync", script).exit_code == 0
    answer = only(energy_patch("diagnose", "--json", script))
    assert names(answer) == PATCHED | {"separate-models"}
    command = answer["recommendation"]["command"].split()
    assert command == ["energy-patch", "apply", "--sync", str(script)]
    assert energy_patch(*command[1:]).exit_code == 0
    assert names(only(energy_patch("diagnose", "--json", script))) == PATCHED


def test_modified(energy_patch: Command, folder: Path) -> None:
    script = folder / "finetune.py"
    script.write_text(SCRIPT, "utf-8")
    assert energy_patch("apply", script).exit_code == 0
    text = script.read_text("utf-8")
    assert "replicate(energy_model)" in text
    script.write_text(text.replace("replicate(energy_model)", "replicate(vla)"), "utf-8")
    answer = only(energy_patch("diagnose", "--json", script))
    [note] = answer["notes"]
    assert "\n" not in note
    assert f"`energy-patch status {script}` lists the lines that changed" in note
    assert names(answer) == PATCHED - {"no-energy-model", "unpacking"} | {"separate-models"}
    assert (answer["calls"], answer["numbers"], answer["unfollowed"], answer["doubts"]) == ([], [], [], [])
    assert answer["recommendation"]["command"] is None
    assert energy_patch("diagnose", script).stdout.decode().startswith(f"{script}: patch modified\n")


def test_the_temperature_of_the_patch_counts(energy_patch: Command, tmp_path: Path) -> None:
    (tmp_path / "energy").mkdir()
    (tmp_path / "energy" / "energy_model.py").write_text(MODEL, "utf-8")
    script = tmp_path / "finetune.py"
    script.write_text(LOOP, "utf-8")
    found = []
    for tau in (None, "0.5", "0.07"):
        if tau is not None:
            assert energy_patch("apply", "--tau", tau, script).exit_code == 0
        found.append(names(only(energy_patch("diagnose", "--json", script))))
        energy_patch("revert", script)
    assert found == [{"local-negatives", "separate-models", "temperature"}, {"temperature"}, set()]


def test_a_temperature_that_was_tuned_counts(energy_patch: Command, folder: Path) -> None:
    (folder / "energy" / "energy_model.py").write_text(MODEL, "utf-8")
    script = folder / "finetune.py"
    script.write_text(SCRIPT, "utf-8")
    assert energy_patch("apply", "--strategy", "queue", script).exit_code == 0
    text = script.read_text("utf-8")
    assert "temperature" not in names(only(energy_patch("diagnose", "--json", script)))
    tuned = text.replace("energy_tau: float = 0.07", "energy_tau: float = 0.4")
    tuned = tuned.replace("energy_queue_size: int = 256", "energy_queue_size: int = 64")
    script.write_text(tuned, "utf-8")
    answer = only(energy_patch("diagnose", "--json", script))
    [finding] = [item for item in answer["findings"] if item["name"] == "temperature"]
    assert finding["title"].startswith("temperature 0.4 is too warm")
    assert {row["name"]: row["negatives"] for row in answer["numbers"]}["queue"] == 23 + 64
    command = answer["recommendation"]["command"].split()
    assert command == ["energy-patch", "apply", "--tau", "0.07", str(script)]
    assert energy_patch(*command[1:]).exit_code == 0
    assert "temperature" not in names(only(energy_patch("diagnose", "--json", script)))


def test_a_field_that_the_script_had_counts(energy_patch: Command, folder: Path) -> None:
    (folder / "energy" / "energy_model.py").write_text(MODEL, "utf-8")
    script = folder / "finetune.py"
    own = SCRIPT.replace("    lr: float = 1e-3", "    lr: float = 1e-3\n    energy_tau: float = 0.4")
    script.write_text(own, "utf-8")
    assert energy_patch("apply", script).exit_code == 0
    [finding] = [
        item for item in only(energy_patch("diagnose", "--json", script))["findings"] if item["name"] == "temperature"
    ]
    assert finding["title"].startswith("temperature 0.4 is too warm")
    assert (finding["options"], finding["cure"]) == ("", "Set energy_tau to 0.07 in the script's settings.")


def test_patched_in_another_file(energy_patch: Command, folder: Path) -> None:
    """The module is looked at as it was, and its lines are given as they are now."""
    (folder / "losses.py").write_text(
        "from energy.energy_model import energy_inbatch_swap_infonce\n\n\n"
        "def compute_losses(energy_model, hidden, actions):\n"
        "    return energy_inbatch_swap_infonce(energy_model, hidden, actions)\n",
        "utf-8",
    )
    script = folder / "finetune.py"
    text = LOOP.replace(
        "energy_inbatch_swap_infonce(energy_model, hidden, actions, mask)",
        "compute_losses(energy_model, hidden, actions)",
    )
    text = text.replace(
        "import EnergyModel, energy_inbatch_swap_infonce", "import EnergyModel\nfrom losses import compute_losses"
    )
    script.write_text(text, "utf-8")
    before = only(energy_patch("diagnose", "--json", script))
    assert names(before) == {"local-negatives", "separate-models", "unpacked-tensor"}
    assert energy_patch("apply", script).exit_code == 0
    answer = only(energy_patch("diagnose", "--json", script))
    assert names(answer) == {"unpacked-tensor"}
    now = (folder / "losses.py").read_text("utf-8")
    near = line_of(now, "return distributed_energy_inbatch_swap_infonce(")
    assert [item["path"] for item in answer["calls"]] == ["losses.py"]
    assert answer["calls"][0]["line"] == near
    assert {item["path"] for item in answer["in_place"]} >= {"losses.py"}
    alone = only(energy_patch("diagnose", "--json", folder / "losses.py"))
    assert "is patched together with" in alone["notes"][0]


def test_in_a_folder(energy_patch: Command, folder: Path) -> None:
    """The script with its patch; its modules are not told to be patched by themselves."""
    script = folder / "finetune.py"
    script.write_text(SCRIPT, "utf-8")
    assert energy_patch("apply", script).exit_code == 0
    scripts = {Path(item["path"]).name: item for item in energy_patch("diagnose", "--json", folder).json["scripts"]}
    assert set(scripts) == {"finetune.py", "energy_model.py", "train_utils.py"}
    assert names(scripts["finetune.py"]) == PATCHED
    assert scripts["energy_model.py"]["recommendation"] is None
    assert "its calls are patched with the scripts that use them" in scripts["energy_model.py"]["notes"][0]
    shown = energy_patch("diagnose", folder).stdout.decode()
    assert shown.startswith(f"{script}: patched, strategy global")
    assert "energy-patch apply" not in shown
    assert "Looked at with the scripts that use them" in shown

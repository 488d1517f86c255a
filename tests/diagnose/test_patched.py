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
    near = [item["line"] for item in answer["in_place"]]
    assert any(abs(line - line_of(text, "replicate(energy_model)")) <= 1 for line in near)
    assert "intact" in answer["notes"][0]


def test_patched_without_synchronization(energy_patch: Command, folder: Path) -> None:
    script = folder / "finetune.py"
    script.write_text(SCRIPT, "utf-8")
    assert energy_patch("apply", "--no-sync", script).exit_code == 0
    answer = only(energy_patch("diagnose", "--json", script))
    assert names(answer) == PATCHED | {"separate-models"}
    assert answer["recommendation"]["command"].startswith("energy-patch apply --sync ")


def test_modified(energy_patch: Command, folder: Path) -> None:
    script = folder / "finetune.py"
    script.write_text(SCRIPT, "utf-8")
    assert energy_patch("apply", script).exit_code == 0
    text = script.read_text("utf-8")
    assert "replicate(energy_model)" in text
    script.write_text(text.replace("replicate(energy_model)", "replicate(vla)"), "utf-8")
    ran = energy_patch("diagnose", "--json", script)
    assert ran.exit_code == 0
    assert "not intact" in only(ran)["notes"][0]


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
    assert abs(answer["calls"][0]["line"] - near) <= 1
    assert {item["path"] for item in answer["in_place"]} >= {"losses.py"}
    alone = only(energy_patch("diagnose", "--json", folder / "losses.py"))
    assert "is patched together with" in alone["notes"][0]

"""The loss is called in a module that the script imports: every file of a folder before, after, and taken back."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.commands.test_refusals import EXPECTED
from tests.conftest import Command, snapshot, working_directory
from tests.scripts.folder_cases import SCRIPT, FolderCase, folder_cases, read_case, write_files


@pytest.mark.parametrize("path", folder_cases("labs_*.py"), ids=lambda path: path.stem)
def test_folder(path: Path, tmp_path: Path, energy_patch: Command) -> None:
    case = read_case(path)
    options = shlex.split(case.head.removeprefix("# energy-patch apply"))
    write_files(tmp_path, case.before)
    before, script = snapshot(tmp_path), tmp_path / SCRIPT

    dry = energy_patch("apply", *options, "--dry-run", script)
    assert dry.exit_code == 0, dry.stderr
    assert snapshot(tmp_path) == before

    assert energy_patch("apply", *options, script).exit_code == 0
    changed = {name: now for name in case.before if (now := (tmp_path / name).read_text("utf-8")) != case.before[name]}
    if os.environ.get("ENERGY_PATCH_UPDATE_CASES"):
        path.write_text(FolderCase(case.head, case.before, changed).text, "utf-8")
    else:
        assert changed == case.after
    assert changed
    for name in changed:
        assert name.encode() in dry.stdout
        compile((tmp_path / name).read_bytes(), name, "exec")

    patched = snapshot(tmp_path)
    again = energy_patch("apply", *options, "--json", script)
    assert (again.exit_code, again.json["outcome"]) == (0, "already-applied")
    assert energy_patch("apply", "--check", script).exit_code == 0
    assert energy_patch("status", "--json", script).json["outcome"] == "already-applied"
    assert snapshot(tmp_path) == patched

    assert energy_patch("revert", script).exit_code == 0
    assert snapshot(tmp_path) == before


@pytest.mark.parametrize("path", folder_cases("refused_*.py"), ids=lambda path: path.stem)
def test_refused(path: Path, tmp_path: Path, energy_patch: Command) -> None:
    case = read_case(path)
    first, second = case.head.splitlines()
    expected = EXPECTED.fullmatch(second)
    assert expected is not None
    write_files(tmp_path, case.before)
    before = snapshot(tmp_path)
    ran = energy_patch("apply", *shlex.split(first.removeprefix("# energy-patch apply")), "--json", tmp_path / SCRIPT)
    answer = ran.json["scripts"][0]
    line = int(expected["line"]) if expected["line"] else None
    assert (ran.exit_code, answer["reason"], answer["line"]) == (1, expected["reason"], line), answer
    assert expected["words"] in answer["message"]
    assert snapshot(tmp_path) == before


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    """Two entry scripts that share a module."""
    case = read_case(next(iter(folder_cases("labs_losses_module.py"))))
    write_files(tmp_path, {**case.before, "pretrain.py": case.before[SCRIPT]})
    return tmp_path


def test_a_shared_module_is_patched_once_and_reverted_with_the_last(shared: Path, energy_patch: Command) -> None:
    before = snapshot(shared)
    assert energy_patch("apply", shared / SCRIPT).exit_code == 0
    module = (shared / "losses.py").read_bytes()
    assert module != before["losses.py"]

    assert energy_patch("apply", shared / "pretrain.py").exit_code == 0
    assert (shared / "losses.py").read_bytes() == module

    assert energy_patch("revert", shared / SCRIPT).exit_code == 0
    assert (shared / "losses.py").read_bytes() == module
    assert energy_patch("status", "--json", shared / "pretrain.py").json["outcome"] == "already-applied"

    assert energy_patch("revert", shared / "pretrain.py").exit_code == 0
    assert snapshot(shared) == before


@pytest.mark.parametrize("order", [(SCRIPT, "pretrain.py"), ("pretrain.py", SCRIPT)])
def test_scripts_that_share_a_module_in_one_call(order: tuple[str, str], shared: Path, energy_patch: Command) -> None:
    before, scripts = snapshot(shared), [shared / name for name in order]
    assert energy_patch("apply", *scripts).exit_code == 0
    assert (shared / "losses.py").read_text().count("replicate(energy_model)") == 1
    assert energy_patch("revert", *scripts).exit_code == 0
    assert snapshot(shared) == before


def test_a_module_that_two_other_scripts_keep_patched(shared: Path, energy_patch: Command) -> None:
    scripts = [shared / SCRIPT, shared / "pretrain.py", shared / "third.py"]
    scripts[2].write_bytes(scripts[1].read_bytes())
    assert energy_patch("apply", *scripts).exit_code == 0
    words = "losses.py stays patched: {} patched with it"
    assert words.format("pretrain.py and third.py are") in energy_patch("revert", scripts[0]).stderr
    assert words.format("third.py is") in energy_patch("revert", scripts[1]).stderr


def test_another_strategy_for_one_of_two_scripts_is_refused(shared: Path, energy_patch: Command) -> None:
    assert energy_patch("apply", shared / SCRIPT).exit_code == 0
    patched = snapshot(shared)
    ran = energy_patch("apply", "--strategy", "queue", "--json", shared / "pretrain.py")
    assert (ran.exit_code, ran.json["scripts"][0]["reason"]) == (1, "conflict")
    assert "losses.py is patched for train.py too" in ran.json["scripts"][0]["message"]
    assert snapshot(shared) == patched


def test_edits_of_the_user_in_a_module_stay(shared: Path, energy_patch: Command) -> None:
    assert energy_patch("apply", shared / SCRIPT).exit_code == 0
    module, line = shared / "losses.py", "def other_loss():\n    return 1\n\n\n"
    text = module.read_text()
    module.write_text(text.replace("def energy_loss", f"{line}def energy_loss"))
    assert energy_patch("revert", shared / SCRIPT).exit_code == 0
    original = read_case(next(iter(folder_cases("labs_losses_module.py")))).before["losses.py"]
    assert module.read_text() == original.replace("def energy_loss", f"{line}def energy_loss")


def test_an_edit_inside_the_patch_of_a_module_keeps_everything(shared: Path, energy_patch: Command) -> None:
    assert energy_patch("apply", shared / SCRIPT).exit_code == 0
    module = shared / "losses.py"
    module.write_text(module.read_text().replace("world_size=world_size", "world_size=4"))
    edited = snapshot(shared)
    ran = energy_patch("revert", "--json", shared / SCRIPT)
    assert (ran.exit_code, ran.json["scripts"][0]["reason"]) == (1, "patch-modified")
    assert "losses.py" in ran.json["scripts"][0]["message"]
    assert energy_patch("status", "--json", shared / SCRIPT).json["outcome"] == "patch-modified"
    assert snapshot(shared) == edited


def test_the_module_by_itself(shared: Path, energy_patch: Command) -> None:
    before = snapshot(shared)
    assert energy_patch("apply", shared / "losses.py").exit_code == 0
    assert (shared / "losses.py").read_bytes() != before["losses.py"]
    assert (shared / SCRIPT).read_bytes() == before[SCRIPT]
    assert energy_patch("revert", shared / "losses.py").exit_code == 0
    assert snapshot(shared) == before


def test_json_lists_the_modules_of_a_patched_script(shared: Path, energy_patch: Command) -> None:
    for outcome in ("patched", "already-applied"):
        (answer,) = energy_patch("apply", "--json", shared / SCRIPT).json["scripts"]
        assert (answer["outcome"], [each["path"] for each in answer["modules"]]) == (outcome, ["losses.py"])


def test_no_sync_is_said_once(shared: Path, energy_patch: Command) -> None:
    told = energy_patch("apply", "--no-sync", shared / SCRIPT).stderr
    assert told.count("the ranks train separate energy models") == 1


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A script, and a module in a folder below that calls the loss."""
    path = next(iter(folder_cases("labs_composite_loss.py")))
    write_files(tmp_path, read_case(path).before)
    return tmp_path


def test_a_module_in_a_folder_below_the_script_that_imports_it(package: Path, energy_patch: Command) -> None:
    """Beside the module nobody would find `energy_losses/`; following the advice patches it."""
    before = snapshot(package)
    module = package / "energy" / "energy_model.py"
    with working_directory(package):
        (answer,) = energy_patch("apply", "--json", module).json["scripts"]
    assert (answer["outcome"], answer["reason"]) == ("refused", "conflict")
    assert "is imported by train.py" in answer["message"]
    assert snapshot(package) == before
    advice = answer["message"].rpartition("energy-patch ")[2]
    with working_directory(package):
        assert energy_patch(*shlex.split(advice)).exit_code == 0
    assert module.read_bytes() != before["energy/energy_model.py"]
    assert (package / "energy_losses").is_dir()


def test_a_module_whose_own_folder_is_started_from(package: Path, energy_patch: Command) -> None:
    module = package / "energy" / "energy_model.py"
    (package / "energy" / "pretrain.py").write_text("from energy_model import EnergyModel\n")
    assert energy_patch("apply", module).exit_code == 0
    assert (package / "energy" / "energy_losses").is_dir()


def test_a_script_in_a_folder_below_is_started_itself(package: Path, energy_patch: Command) -> None:
    module = package / "energy" / "energy_model.py"
    module.write_text(module.read_text() + '\n\nif __name__ == "__main__":\n    print("tried")\n')
    assert energy_patch("apply", module).exit_code == 0
    assert (package / "energy" / "energy_losses").is_dir()


def test_carriage_returns_of_a_module_stay(shared: Path, energy_patch: Command) -> None:
    module = shared / "losses.py"
    module.write_bytes(module.read_bytes().replace(b"\n", b"\r\n"))
    before = snapshot(shared)
    assert energy_patch("apply", shared / SCRIPT).exit_code == 0
    patched = module.read_bytes()
    assert patched.count(b"\n") == patched.count(b"\r\n") > before["losses.py"].count(b"\n")
    assert energy_patch("revert", shared / SCRIPT).exit_code == 0
    assert snapshot(shared) == before


@pytest.mark.parametrize("path", folder_cases("labs_*.py"), ids=lambda path: path.stem)
def test_patched_modules_are_imported_without_energy_losses(path: Path, tmp_path: Path) -> None:
    """Programs that load such a module for something else need not lie beside `energy_losses/`."""
    case = read_case(path)
    modules = [name for name in case.after if name != SCRIPT]
    write_files(tmp_path, {name: text for name, text in case.all_after.items() if name != SCRIPT})
    stand_ins = "import sys\nfrom unittest.mock import MagicMock\n"
    stand_ins += "for name in ('torch', 'torch.nn', 'torch.nn.functional', 'torch.distributed', 'built'):\n"
    stand_ins += "    sys.modules[name] = MagicMock()\n"
    if "energy/energy_model.py" not in case.before:
        stand_ins += "for name in ('energy', 'energy.energy_model'):\n    sys.modules[name] = MagicMock()\n"
    imports = "".join(f"import {name.removesuffix('.py').replace('/', '.')}\n" for name in modules)
    subprocess.run([sys.executable, "-c", stand_ins + imports], cwd=tmp_path, check=True, timeout=60)

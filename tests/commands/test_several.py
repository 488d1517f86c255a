"""Several files and whole folders: those without the loss stop nobody, a refusal stops all."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path

import pytest

import energy_patch.demo as energy_patch_demo
from tests.conftest import Command, Ran, snapshot, working_directory
from tests.scripts.folder_cases import SCRIPT, FolderCase, folder_cases, read_case, write_files

LOSS = "energy_inbatch_swap_infonce"
CALLS = f"""\
from energy.energy_model import {LOSS}

def forward(energy_model, h, a, mask):
    return {LOSS}(energy_model, h, a, mask)[0]
"""
BROKEN = "print 'Python 2'\n"
FILES = {
    "scripts/train.py": CALLS,
    "scripts/plot.py": "import torch\n",
    "scripts/old.py": BROKEN,
    "scripts/energy/__init__.py": "",
    "scripts/energy/energy_model.py": f"def {LOSS}(energy_model, h, a_pos, pad_mask=None, tau=0.5):\n    pass\n",
    "scripts/.hidden/train.py": CALLS,
    "scripts/venv/pyvenv.cfg": "",
    "scripts/venv/train.py": CALLS,
    "scripts/deep/er/train.py": CALLS,
}
PATCHED = {"scripts/train.py", "scripts/deep/er/train.py"}
SEEN = {name for name in FILES if name.endswith(".py") and "hidden" not in name and "venv" not in name}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_files(tmp_path, FILES)
    return tmp_path


def outcomes(ran: Ran) -> dict[str, str]:
    return {Path(item["path"]).as_posix(): item["outcome"] for item in ran.json["scripts"]}


def expected(patched: str, others: str = "not-applied") -> dict[str, str]:
    return {name: patched if name in PATCHED else others for name in SEEN}


def test_a_folder(folder: Path, energy_patch: Command) -> None:
    before = snapshot(folder)
    with working_directory(folder):
        assert energy_patch("apply", "--check", "scripts").exit_code == 3
        assert energy_patch("apply", "--dry-run", "scripts").exit_code == 0
        assert snapshot(folder) == before
        ran = energy_patch("apply", "--json", "scripts")
        assert (ran.exit_code, outcomes(ran)) == (0, expected("patched"))
        patched = snapshot(folder)
        assert {name for name in before if patched[name] != before[name]} == PATCHED
        again = energy_patch("apply", "--json", "scripts")
        assert (again.exit_code, outcomes(again)) == (0, expected("already-applied"))
        assert energy_patch("apply", "--check", "scripts").exit_code == 0
        status = energy_patch("status", "--json", "scripts")
        assert (status.exit_code, outcomes(status)) == (0, expected("already-applied"))
        assert snapshot(folder) == patched
        back = energy_patch("revert", "--json", "scripts")
        assert (back.exit_code, outcomes(back)) == (0, expected("reverted"))
    assert snapshot(folder) == before


def test_those_without_the_loss_are_listed(folder: Path, energy_patch: Command) -> None:
    with working_directory(folder):
        told = energy_patch("apply", "scripts").stderr.splitlines()
        status = energy_patch("status", "scripts").stdout.decode().splitlines()
        found = energy_patch("diagnose", "scripts").stdout.decode().splitlines()
    others = "scripts/old.py, scripts/plot.py, scripts/energy/__init__.py"
    assert f"not patched, {LOSS} is not called: {others}" in told
    assert any(
        line.startswith("scripts/energy/energy_model.py: not patched, is a module of scripts/train.py; ")
        for line in told
    )
    assert "To take it back: energy-patch revert scripts" in told
    assert status[0] == "scripts/train.py: patched, strategy global"
    assert status[-1] == f"not patched: {others.replace('__init__', '__init__.py, scripts/energy/energy_model')}"
    assert found[0] == "scripts/train.py: patched, strategy global"
    assert found[-1] == f"{LOSS} is not called: {others}"


def test_several_files_of_which_one_has_the_loss(folder: Path, energy_patch: Command) -> None:
    with working_directory(folder / "scripts"):
        ran = energy_patch("apply", "plot.py", "train.py")
        assert ran.exit_code == 0
        assert f"plot.py: not patched, {LOSS} is not called in this script" in ran.stderr
        assert energy_patch("revert", "plot.py", "train.py").exit_code == 0
    assert (folder / "scripts" / "train.py").read_text() == CALLS


def test_a_refusal_in_one_stops_all_and_is_named(folder: Path, energy_patch: Command) -> None:
    (folder / "scripts" / "deep" / "star.py").write_text(CALLS.replace("energy_model, h, a, mask)[0]", "*args)[0]"))
    before = snapshot(folder)
    with working_directory(folder):
        ran = energy_patch("apply", "--json", "scripts")
        assert ran.exit_code == 1
        answer = outcomes(ran)
        assert answer.pop("scripts/deep/star.py") == "refused"
        assert {*answer.values()} == {"not-attempted"}
        told = energy_patch("apply", "scripts").stderr.splitlines()
    assert told[0].startswith("scripts/deep/star.py:4: refused (unsupported): ")
    assert snapshot(folder) == before


@pytest.mark.parametrize(
    "names", [["plot.py"], ["plot.py", "energy/energy_model.py"], ["energy"], ["old.py", "plot.py"]]
)
def test_where_none_has_the_loss(names: list[str], folder: Path, energy_patch: Command) -> None:
    """`apply` was asked to patch something, `--check` only whether there is something to do."""
    before = snapshot(folder)
    with working_directory(folder / "scripts"):
        ran = energy_patch("apply", "--json", *names)
        assert (ran.exit_code, {*outcomes(ran).values()}) == (1, {"refused"})
        checked = energy_patch("apply", "--check", "--json", *names)
        assert (checked.exit_code, {*outcomes(checked).values()}) == (0, {"not-applied"})
    assert snapshot(folder) == before


def test_a_check_passes_what_is_no_python_and_has_no_loss(folder: Path, energy_patch: Command) -> None:
    script = folder / "scripts" / "old.py"
    assert energy_patch("apply", "--check", script).exit_code == 0
    script.write_text(BROKEN + CALLS)
    assert energy_patch("apply", "--check", script).exit_code == 1
    assert energy_patch("apply", "--check", folder / "no_such_file.py").exit_code == 1


def is_alone(case: FolderCase) -> bool:
    """Whether the script is the only program in its folder."""
    return not any("__main__" in text for name, text in case.before.items() if name != SCRIPT)


ALONE = [path for path in folder_cases("labs_*.py") if is_alone(read_case(path))]


def test_most_folders_have_one_program() -> None:
    assert len(ALONE) >= 12


@pytest.mark.parametrize("path", ALONE, ids=lambda path: path.stem)
def test_a_folder_is_patched_as_the_script_in_it(path: Path, tmp_path: Path, energy_patch: Command) -> None:
    """Its modules go with the script, wherever they lie."""
    case = read_case(path)
    options = shlex.split(case.head.splitlines()[0].removeprefix("# energy-patch apply"))
    alone, folder = tmp_path / "alone", tmp_path / "folder"
    for each in (alone, folder):
        write_files(each, case.before)
    before = snapshot(folder)
    assert energy_patch("apply", *options, alone / SCRIPT).exit_code == 0

    ran = energy_patch("apply", *options, "--json", folder)
    answer = {Path(item["path"]).relative_to(folder).as_posix(): item for item in ran.json["scripts"]}
    assert snapshot(folder) == snapshot(alone)
    for name in {*case.after} - {SCRIPT}:
        assert answer[name]["outcome"] == "patched"
        assert answer[name]["message"] == f"together with {folder / SCRIPT}, which imports it"
        assert energy_patch("apply", "--check", folder / name).exit_code == 0
    assert energy_patch("apply", "--json", folder).json["outcome"] == "already-applied"
    assert energy_patch("status", folder).exit_code == 0
    assert energy_patch("revert", folder).exit_code == 0
    assert snapshot(folder) == before


def test_a_module_whose_calls_no_script_uses_is_left_alone(tmp_path: Path, energy_patch: Command) -> None:
    """As the file that defines the loss often holds another function that calls it."""
    defines = f"def {LOSS}(energy_model, h, a_pos, pad_mask=None, tau=0.5):\n    pass\n\n\n"
    unused = f"def another_loss(*args):\n    return {LOSS}(*args)\n"
    write_files(tmp_path, {"train.py": CALLS, "energy/energy_model.py": defines + unused})
    before = snapshot(tmp_path)
    with working_directory(tmp_path):
        ran = energy_patch("apply", ".")
        assert ran.exit_code == 0, ran.stderr
        assert "energy/energy_model.py: not patched, is a module of train.py; " in ran.stderr
        assert energy_patch("apply", "--check", ".").exit_code == 0
        assert snapshot(tmp_path)["energy/energy_model.py"] == before["energy/energy_model.py"]
        assert energy_patch("revert", ".").exit_code == 0
        assert snapshot(tmp_path) == before
        (tmp_path / "train.py").write_text("import torch\n")
        assert (
            energy_patch("apply", ".").exit_code == 1
        )  # now it is no module of a script here: its own call is refused


def test_a_program_is_patched_itself_not_as_a_module_of_what_borrows_from_it(
    tmp_path: Path, energy_patch: Command
) -> None:
    program = CALLS + "\nif __name__ == '__main__':\n    forward(*load())\n"
    borrows = "from train import forward\n\nforward(*load())\n"
    write_files(tmp_path, {"both/train.py": program, "both/evaluate.py": borrows, "alone/train.py": program})
    alone, folder = tmp_path / "alone", tmp_path / "both"
    assert energy_patch("apply", alone / "train.py").exit_code == 0
    for outcome in ("patched", "already-applied"):
        ran = energy_patch("apply", "--json", folder)
        answer = {Path(item["path"]).name: item["outcome"] for item in ran.json["scripts"]}
        assert answer == {"train.py": outcome, "evaluate.py": "not-applied"}
    assert (folder / "train.py").read_bytes() == (alone / "train.py").read_bytes()


def test_a_folder_without_python_files(tmp_path: Path, energy_patch: Command) -> None:
    for command in ("apply", "status", "revert"):
        ran = energy_patch(command, tmp_path)
        assert ran.exit_code == 1
        assert "refused (unreadable): is a folder without Python files" in ran.stderr + ran.stdout.decode()


def test_what_leads_nowhere_or_is_hidden_is_passed_over(folder: Path, energy_patch: Command) -> None:
    (folder / "scripts" / ".#train.py").symlink_to("me@host:1")
    (folder / "scripts" / "gone.py").symlink_to("nowhere.py")
    (folder / "scripts" / "._train.py").write_bytes(b"\0")
    with working_directory(folder):
        ran = energy_patch("apply", "--json", "scripts")
        assert (ran.exit_code, outcomes(ran)) == (0, expected("patched"))
        assert energy_patch("revert", "scripts").exit_code == 0


def test_a_long_list_is_shortened(tmp_path: Path, energy_patch: Command) -> None:
    write_files(tmp_path, {f"f{number:02}.py": "" for number in range(30)} | {"train.py": CALLS})
    with working_directory(tmp_path):
        told = energy_patch("apply", ".").stderr
        assert "f19.py, and 10 more (--json names all)" in told
        assert len(energy_patch("status", "--json", ".").json["scripts"]) == 31


def test_many_files_are_listed_as_a_folder_is(tmp_path: Path, energy_patch: Command) -> None:
    """As a hook of pre-commit names them."""
    files = {f"f{number}.py": "" for number in range(8)} | {"train.py": CALLS}
    write_files(tmp_path, files)
    with working_directory(tmp_path):
        ran = energy_patch("apply", "--check", *files)
        assert ran.exit_code == 3
        assert f"not patched, {LOSS} is not called: f0.py, f1.py" in ran.stderr
        assert energy_patch("apply", *files).exit_code == 0
        assert energy_patch("apply", "--check", *files).exit_code == 0


@pytest.mark.parametrize("command", ["apply", "revert", "status", "diagnose"])
def test_an_empty_name_is_not_the_folder(command: str, folder: Path, energy_patch: Command) -> None:
    before = snapshot(folder)
    with working_directory(folder):
        ran = energy_patch(command, "")
    assert ran.exit_code == 2
    assert "a script's name is empty" in ran.stderr
    assert snapshot(folder) == before


def test_the_bundled_sample(tmp_path: Path, energy_patch: Command) -> None:
    """It imports, and never uses, a sibling of the loss whose call could not be patched."""
    sample = Path(energy_patch_demo.__file__).with_name("sample")
    shutil.copytree(sample, tmp_path / "sample", ignore=shutil.ignore_patterns("__pycache__"))
    before = snapshot(tmp_path)
    for name in ("sample/finetune_Energy.py", "sample"):
        assert energy_patch("apply", tmp_path / name).exit_code == 0
        after = snapshot(tmp_path)
        assert {name for name in before if after[name] != before[name]} == {"sample/finetune_Energy.py"}
        assert energy_patch("revert", tmp_path / name).exit_code == 0
        assert snapshot(tmp_path) == before


def test_the_hook_of_pre_commit(folder: Path, energy_patch: Command) -> None:
    """It is given all Python files of a repository, those that are copied beside a patched script aside."""
    hook = (Path(__file__).parents[2] / ".pre-commit-hooks.yaml").read_text("utf-8")
    entry, exclude = (re.search(rf"^  {key}: (.+)$", hook, re.MULTILINE) for key in ("entry", "exclude"))
    assert entry is not None
    assert exclude is not None
    program, *arguments = entry[1].split()
    assert program == "energy-patch"

    def hooked() -> int:
        files = (path.relative_to(folder).as_posix() for path in sorted(folder.rglob("*.py")))
        return energy_patch(*arguments, *(name for name in files if not re.search(exclude[1], name))).exit_code

    with working_directory(folder):
        assert hooked() == 3
        assert energy_patch("apply", *sorted(folder.rglob("train.py"))).exit_code == 0
        assert len([*folder.rglob("energy_losses/ranks.py")]) > 1
        assert hooked() == 0
        (folder / "scripts" / "train.py").write_text(CALLS)
        assert hooked() == 3

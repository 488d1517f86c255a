"""Scripts get copied and renamed: they are known by what they hold, and `energy_losses/` stays while it is needed."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.commands.test_switch import SCRIPT
from tests.conftest import Command, snapshot
from tests.scripts.folder_cases import SCRIPT as ENTRY
from tests.scripts.folder_cases import folder_cases, read_case, write_files


@pytest.fixture
def patched(tmp_path: Path, energy_patch: Command) -> Path:
    script = tmp_path / "a.py"
    script.write_bytes(SCRIPT)
    assert energy_patch("apply", "--tau", "0.3", script).exit_code == 0
    return script


def outcome(energy_patch: Command, *arguments: object) -> str:
    name: str = energy_patch(*arguments[:1], "--json", *arguments[1:]).json["scripts"][0]["outcome"]
    return name


def edit(path: Path) -> bytes:
    """An edit that has nothing to do with the patch."""
    path.write_bytes(b"# an experiment\n" + path.read_bytes())
    return b"# an experiment\n" + SCRIPT


@pytest.mark.parametrize("is_edited", [False, True])
@pytest.mark.parametrize("first", ["a.py", "b.py"])
def test_a_copy_is_patched_and_keeps_the_modules(
    first: str, is_edited: bool, patched: Path, energy_patch: Command
) -> None:
    copy = patched.with_name("b.py")
    shutil.copy(patched, copy)
    expected = {"a.py": SCRIPT, "b.py": edit(copy) if is_edited else SCRIPT}
    assert outcome(energy_patch, "status", copy) == "already-applied"
    assert outcome(energy_patch, "apply", copy) == "already-applied"
    assert "  - known by its content: a copy of a.py" in energy_patch("status", copy).stdout.decode().splitlines()

    second = "b.py" if first == "a.py" else "a.py"
    assert energy_patch("revert", patched.with_name(first)).exit_code == 0
    assert patched.with_name(first).read_bytes() == expected[first]
    assert (patched.parent / "energy_losses" / "ranks.py").is_file()
    assert outcome(energy_patch, "status", patched.with_name(first)) == "not-applied"
    assert outcome(energy_patch, "status", patched.with_name(second)) == "already-applied"
    assert energy_patch("revert", patched.with_name(second)).exit_code == 0
    assert snapshot(patched.parent) == expected


@pytest.mark.parametrize("is_edited", [False, True])
def test_a_renamed_script_is_the_script(is_edited: bool, patched: Path, energy_patch: Command) -> None:
    renamed = patched.rename(patched.with_name("c.py"))
    original = edit(renamed) if is_edited else SCRIPT
    told = energy_patch("status", renamed).stdout.decode().splitlines()
    assert told[0] == f"{renamed}: patched, strategy global --tau 0.3"
    assert "  - known by its content: the new name of a.py" in told
    assert outcome(energy_patch, "apply", "--strategy", "queue", renamed) == "patched"
    assert b"energy_tau: float = 0.3" in renamed.read_bytes()
    assert energy_patch("revert", renamed).exit_code == 0
    assert snapshot(patched.parent) == {"c.py": original}


def test_a_copy_survives_a_switch_of_the_original(patched: Path, energy_patch: Command) -> None:
    copy = patched.with_name("b.py")
    shutil.copy(patched, copy)
    edited = edit(copy)
    assert energy_patch("apply", "--strategy", "queue", patched).exit_code == 0
    assert energy_patch("status", copy).stdout.decode().startswith(f"{copy}: patched, strategy global --tau 0.3")
    assert (patched.parent / "energy_losses" / "global_infonce.py").is_file()
    assert energy_patch("revert", patched, copy).exit_code == 0
    assert snapshot(patched.parent) == {"a.py": SCRIPT, "b.py": edited}


def test_one_script_copied_over_another(patched: Path, energy_patch: Command) -> None:
    other = patched.with_name("b.py")
    other.write_bytes(SCRIPT + b"# other\n")
    assert energy_patch("apply", "--strategy", "queue", other).exit_code == 0
    shutil.copy(other, patched)
    assert energy_patch("status", patched).stdout.decode().startswith(f"{patched}: patched, strategy queue")
    assert energy_patch("revert", patched, other).exit_code == 0
    assert snapshot(patched.parent) == {"a.py": SCRIPT + b"# other\n", "b.py": SCRIPT + b"# other\n"}


def test_modules_stay_while_anything_beside_them_imports_them(patched: Path, energy_patch: Command) -> None:
    broken = patched.with_name("broken.py")
    broken.write_bytes(patched.read_bytes().replace(b"replicate(energy_model)", b"replicate(mine)"))
    before = snapshot(patched.parent / "energy_losses")
    for command in (("apply", "--strategy", "queue"), ("revert",)):
        ran = energy_patch(*command, patched)
        assert ran.exit_code == 0
        assert "energy_losses/ is kept as it is: broken.py imports it" in ran.stderr
        after = snapshot(patched.parent / "energy_losses")
        assert {name: after[name] for name in before if name != "patch.json"} == {
            name: raw for name, raw in before.items() if name != "patch.json"
        }
    assert patched.read_bytes() == SCRIPT
    assert outcome(energy_patch, "status", broken) == "patch-modified"
    broken.write_bytes(SCRIPT)
    assert energy_patch("revert", broken).exit_code == 0
    assert snapshot(patched.parent) == {"a.py": SCRIPT, "broken.py": SCRIPT}


def test_a_script_that_only_speaks_of_the_modules_holds_nothing(patched: Path, energy_patch: Command) -> None:
    notes = b'"""Says nothing to energy_losses/."""\n# from energy_losses.ranks import replicate\n'
    patched.with_name("notes.py").write_bytes(notes)
    assert energy_patch("revert", patched).exit_code == 0
    assert snapshot(patched.parent) == {"a.py": SCRIPT, "notes.py": notes}


# Modules that are patched through a script


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_files(tmp_path, read_case(next(iter(folder_cases("labs_losses_module.py")))).before)
    return tmp_path


def test_a_renamed_entry_script_and_its_module(folder: Path, energy_patch: Command) -> None:
    before = snapshot(folder)
    assert energy_patch("apply", folder / ENTRY).exit_code == 0
    (folder / ENTRY).rename(folder / "pretrain.py")
    assert outcome(energy_patch, "status", folder / "pretrain.py") == "already-applied"
    assert energy_patch("revert", folder / "pretrain.py").exit_code == 0
    assert snapshot(folder) == {"pretrain.py": before[ENTRY], "losses.py": before["losses.py"]}


def test_a_renamed_module(folder: Path, energy_patch: Command) -> None:
    before, script = snapshot(folder), folder / ENTRY
    assert energy_patch("apply", script).exit_code == 0
    (folder / "losses.py").rename(folder / "all_losses.py")
    script.write_text(script.read_text().replace("from losses import", "from all_losses import"))
    now = script.read_bytes()
    assert outcome(energy_patch, "status", script) == "already-applied"
    assert outcome(energy_patch, "apply", script) == "already-applied"
    assert outcome(energy_patch, "apply", "--strategy", "queue", script) == "patched"
    assert b"queued_energy_infonce_loss" in (folder / "all_losses.py").read_bytes()
    assert energy_patch("revert", script).exit_code == 0
    assert snapshot(folder) == {ENTRY: now, "all_losses.py": before["losses.py"]}


def test_a_copied_module_stands_by_itself(folder: Path, energy_patch: Command) -> None:
    before = snapshot(folder)
    assert energy_patch("apply", folder / ENTRY).exit_code == 0
    copy = folder / "losses_v2.py"
    shutil.copy(folder / "losses.py", copy)
    assert energy_patch("revert", folder / ENTRY).exit_code == 0
    assert (folder / "energy_losses" / "ranks.py").is_file()
    assert outcome(energy_patch, "status", copy) == "already-applied"
    assert energy_patch("revert", copy).exit_code == 0
    assert snapshot(folder) == {**before, "losses_v2.py": before["losses.py"]}


def test_a_module_that_is_gone(folder: Path, energy_patch: Command) -> None:
    before, script = snapshot(folder), folder / ENTRY
    assert energy_patch("apply", script).exit_code == 0
    (folder / "losses.py").unlink()
    ran = energy_patch("status", script)
    assert ran.exit_code == 1
    assert "losses.py, which is patched with it, is not there any more; run apply again, or revert" in (
        ran.stdout.decode()
    )
    told = energy_patch("revert", script).stderr
    assert "  - losses.py is not there any more, so nothing was taken back in it" in told
    assert "energy_losses/ is kept for losses.py, which was patched and is not here now; if it is gone for good" in told
    assert script.read_bytes() == before[ENTRY]
    assert outcome(energy_patch, "status", script) == "not-applied"
    shutil.rmtree(folder / "energy_losses")
    assert outcome(energy_patch, "status", script) == "not-applied"


# A module that was asked for by itself


@pytest.mark.parametrize("options", [(), ("--tau", "0.3")])
def test_a_module_that_was_patched_by_itself_stays_so(
    options: tuple[str, ...], folder: Path, energy_patch: Command
) -> None:
    before, module = snapshot(folder), folder / "losses.py"
    assert energy_patch("apply", *options, module).exit_code == 0
    patched = snapshot(folder)
    assert energy_patch("apply", *options, folder / ENTRY).exit_code == 0
    assert module.read_bytes() == patched["losses.py"]
    ran = energy_patch("revert", folder / ENTRY)
    assert "losses.py stays patched: it was patched by itself" in ran.stderr
    assert snapshot(folder) == patched
    assert energy_patch("revert", module).exit_code == 0
    assert snapshot(folder) == before


def test_a_module_that_was_patched_by_itself_is_not_switched_by_a_script(folder: Path, energy_patch: Command) -> None:
    before, module, script = snapshot(folder), folder / "losses.py", folder / ENTRY
    assert energy_patch("apply", module).exit_code == 0
    patched = snapshot(folder)
    ran = energy_patch("apply", "--strategy", "queue", "--json", script)
    (answer,) = ran.json["scripts"]
    assert (answer["outcome"], answer["reason"]) == ("refused", "conflict")
    assert "losses.py is patched by itself too, with strategy global; name these files in the same" in answer["message"]
    assert snapshot(folder) == patched

    ran = energy_patch("apply", "--strategy", "queue", script, module)
    assert ran.exit_code == 0, ran.stderr
    assert b"queued_energy_infonce_loss" in module.read_bytes()
    assert energy_patch("revert", script, module).exit_code == 0
    assert snapshot(folder) == before


def test_a_module_that_stays_patched_need_not_be_intact(folder: Path, energy_patch: Command) -> None:
    module, script = folder / "losses.py", folder / ENTRY
    assert energy_patch("apply", module).exit_code == 0
    assert energy_patch("apply", script).exit_code == 0
    module.write_text(module.read_text().replace("world_size=world_size", "world_size=4"))
    edited = module.read_bytes()
    assert energy_patch("revert", script).exit_code == 0
    assert module.read_bytes() == edited
    assert energy_patch("revert", module).exit_code == 1

"""What a refusal of `apply` or `revert` says about files and patches, followed to the letter, leads on."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from pathlib import Path

import pytest

from energy_patch.record.schema import FORMAT
from tests.commands.test_switch import SCRIPT
from tests.conftest import Command, snapshot, working_directory
from tests.scripts.folder_cases import folder_cases, read_case, write_files


@pytest.fixture
def script(tmp_path: Path, energy_patch: Command) -> Path:
    path = tmp_path / "train.py"
    path.write_bytes(SCRIPT)
    assert energy_patch("apply", path).exit_code == 0
    return path


def refused(energy_patch: Command, reason: str, *arguments: object) -> str:
    """The message of a refusal."""
    ran = energy_patch(*arguments[:1], "--json", *arguments[1:])
    answer = next(item for item in ran.json["scripts"] if item["outcome"] == "refused")
    assert (ran.exit_code, answer["reason"]) == (1, reason), answer
    message: str = answer["message"]
    return message


def replace(path: Path, old: str, new: str) -> None:
    text = path.read_text("utf-8")
    assert old in text
    path.write_text(text.replace(old, new), "utf-8")


# The patch in the script

EDITS: dict[str, tuple[str, str, str, str, str]] = {
    # (what is changed, into what; words of the advice; what following it changes, into what)
    "changed": (
        "    replicate(energy_model)",
        "    replicate(energy_model.module)",
        "Put that back as apply wrote it",
        "    replicate(energy_model.module)",
        "    replicate(energy_model)",
    ),
    "only the patch in a block": (
        "    replicate(energy_model)\n",
        "    if mask:\n        replicate(energy_model)\n",
        "put `pass` there",
        "    if mask:\n",
        "    if mask:\n        pass\n",
    ),
    "a comment within": (
        "mask, tau=energy_tau, ",
        "mask, tau=energy_tau,  # mine\n        ",
        "Put that back as apply wrote it",
        "mask, tau=energy_tau,  # mine\n        ",
        "mask, tau=energy_tau, ",
    ),
    "a comment in brackets of a formatter": (
        "dist.get_world_size() if dist.is_initialized() else 1",
        "(dist.get_world_size() if dist.is_initialized() else 1  # mine\n    )",
        "Move it to a line of its own above",
        "    world_size = (dist.get_world_size() if dist.is_initialized() else 1  # mine\n",
        "    # mine\n    world_size = (dist.get_world_size() if dist.is_initialized() else 1\n",
    ),
    "used elsewhere": (
        "        optimizer.step()\n",
        "        optimizer.step()\n        print(dist.get_rank())\n",
        "Take that out",
        "        print(dist.get_rank())\n",
        "",
    ),
    "used elsewhere, and then defined": (
        "        optimizer.step()\n",
        "        optimizer.step()\n        print(dist.get_rank())\n",
        "or define dist yourself",
        "from dataclasses",
        "import torch.distributed as dist\nfrom dataclasses",
    ),
    "no Python any more": ("optimizer.step()", "optimizer.step(", "make it valid Python again", "step(", "step()"),
    "no Python without it": (
        "replicate(energy_model)\n",
        "same = replicate(energy_model)\n",
        "undo that edit",
        "same = ",
        "",
    ),
    "one more import on the line": (
        "import replicate\n",
        "import replicate, ranks\n",
        "Put that back as apply wrote it",
        "import replicate, ranks\n",
        "import replicate\n",
    ),
}


@pytest.mark.parametrize("name", EDITS)
@pytest.mark.parametrize("command", ["revert", "apply --strategy queue"])
def test_an_edited_patch(name: str, command: str, script: Path, energy_patch: Command) -> None:
    old, new, words, seen, followed = EDITS[name]
    replace(script, old, new)
    before = snapshot(script.parent)
    assert words in refused(energy_patch, "patch-modified", *command.split(), script)
    assert snapshot(script.parent) == before
    replace(script, seen, followed)
    assert energy_patch(*command.split(), script).exit_code == 0
    assert energy_patch("revert", script).exit_code == 0
    assert list(snapshot(script.parent)) == ["train.py"]


def test_the_lines_that_would_have_to_go(script: Path, energy_patch: Command) -> None:
    """Taken out by hand as they are named, they leave a script that is not patched."""
    replace(script, "    replicate(energy_model)", "    replicate(energy_model.module)")
    message = refused(energy_patch, "patch-modified", "revert", script)
    lines = script.read_text("utf-8").splitlines(keepends=True)
    by_hand = message[message.index("its lines:") :]
    for number, text in re.findall(r"^    (\d+): (.*)$", by_hand, re.MULTILINE):
        assert lines[int(number) - 1].strip() == text
        original = SCRIPT.decode().splitlines(keepends=True)
        kept = [line for line in original if line.split("(")[0].strip() == text.split("(")[0].strip()]
        changed = [line for line in original if "return" in line] if text.startswith("return") else kept
        lines[int(number) - 1] = changed[0] if changed else ""
    script.write_text("".join(lines), "utf-8")
    assert script.read_bytes() == SCRIPT
    assert energy_patch("revert", script).exit_code == 0
    assert snapshot(script.parent) == {"train.py": SCRIPT}


# The record

BROKEN = {
    "cut off": (lambda raw: raw[:100], "restore that file"),
    "empty": (lambda raw: b"", "restore that file"),
    "a hash of nothing": (lambda raw: re.sub(rb'"original": "\w+"', b'"original": "0"', raw), "restore that file"),
    "of another script": (lambda raw: re.sub(rb'"original": "\w', b'"original": "', raw), "restore that file"),
    "newer": (lambda raw: raw.replace(b'"format": %d' % FORMAT, b'"format": %d' % (FORMAT + 1)), "upgrade"),
}


@pytest.mark.parametrize("name", BROKEN)
@pytest.mark.parametrize("command", ["revert", "apply", "status"])
def test_a_record_that_cannot_be_used(
    name: str, command: str, script: Path, energy_patch: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    damage, advice = BROKEN[name]
    record = script.parent / "energy_losses" / "patch.json"
    raw = record.read_bytes()
    record.write_bytes(damage(raw))
    assert record.read_bytes() != raw
    before = snapshot(script.parent)
    assert advice in refused(energy_patch, "unreadable", command, script)
    assert snapshot(script.parent) == before
    if advice == "upgrade":
        monkeypatch.setattr("energy_patch.record.codec.FORMAT", FORMAT + 1)
    else:
        record.write_bytes(raw)
    assert energy_patch(command, script).exit_code == 0


def test_a_module_that_no_version_knows_does_no_harm(script: Path, energy_patch: Command) -> None:
    record = script.parent / "energy_losses" / "patch.json"
    tree = json.loads(record.read_text("utf-8"))
    tree["modules"]["of_tomorrow.py"] = "0" * 64
    tree["scripts"]["train.py"]["modules"].append("of_tomorrow.py")
    record.write_text(json.dumps(tree), "utf-8")
    for command in ("status", "apply", "revert"):
        assert energy_patch(command, script).exit_code == 0
    assert snapshot(script.parent) == {"train.py": SCRIPT}


def test_a_lost_record(script: Path, energy_patch: Command) -> None:
    record = script.parent / "energy_losses" / "patch.json"
    raw = record.read_bytes()
    record.unlink()
    for command in ("revert", "apply"):
        assert "restore that file" in refused(energy_patch, "patch-modified", command, script)
    record.write_bytes(raw)
    assert energy_patch("revert", script).exit_code == 0
    assert snapshot(script.parent) == {"train.py": SCRIPT}


def test_a_strategy_of_tomorrow(script: Path, energy_patch: Command) -> None:
    record = script.parent / "energy_losses" / "patch.json"
    record.write_text(record.read_text("utf-8").replace('"strategy": "global"', '"strategy": "of-tomorrow"'), "utf-8")
    assert "choose one with --strategy" in refused(energy_patch, "conflict", "apply", script)
    assert energy_patch("apply", "--strategy", "queue", script).exit_code == 0


# The folder


def test_an_edited_module(script: Path, energy_patch: Command) -> None:
    ranks = script.parent / "energy_losses" / "ranks.py"
    ranks.write_bytes(b"# mine\n")
    assert "move your version elsewhere" in refused(energy_patch, "conflict", "apply", "--strategy", "queue", script)
    ranks.rename(script.parent / "mine.txt")
    assert energy_patch("apply", "--strategy", "queue", script).exit_code == 0
    assert ranks.read_bytes() != b"# mine\n"


@pytest.mark.parametrize("is_folder", [True, False])
def test_somebody_elses_folder_or_file(is_folder: bool, tmp_path: Path, energy_patch: Command) -> None:
    script, theirs = tmp_path / "train.py", tmp_path / "energy_losses"
    script.write_bytes(SCRIPT)
    if is_folder:
        theirs.mkdir()
        (theirs / "mine.py").write_bytes(b"")
    else:
        theirs.write_bytes(b"")
    assert "rename" in refused(energy_patch, "conflict", "apply", script)
    theirs.rename(tmp_path / "my_losses")
    assert energy_patch("apply", script).exit_code == 0


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    """Two entry scripts that share a module."""
    case = read_case(next(iter(folder_cases("labs_losses_module.py"))))
    write_files(tmp_path, {**case.before, "pretrain.py": case.before["train.py"]})
    return tmp_path


def test_a_module_of_a_script(shared: Path, energy_patch: Command) -> None:
    before = snapshot(shared)
    with working_directory(shared):
        assert energy_patch("apply", "train.py").exit_code == 0
        for command in ("apply", "revert"):
            message = refused(energy_patch, "conflict", command, "losses.py")
            assert message == "is patched together with train.py, which imports it; name that script instead"
        assert energy_patch("revert", "train.py").exit_code == 0
    assert snapshot(shared) == before


def test_another_strategy_for_one_of_two_scripts(shared: Path, energy_patch: Command) -> None:
    before = snapshot(shared)
    with working_directory(shared):
        assert energy_patch("apply", "train.py").exit_code == 0
        message = refused(energy_patch, "conflict", "apply", "--strategy", "queue", "pretrain.py")
        assert "losses.py is patched for train.py too, with strategy global; name these files in the same" in message
        assert energy_patch("apply", "--strategy", "queue", "pretrain.py", "train.py").exit_code == 0
        assert energy_patch("revert", "pretrain.py", "train.py").exit_code == 0
    assert snapshot(shared) == before


def test_a_call_that_moved_to_another_file(shared: Path, energy_patch: Command) -> None:
    script = shared / "train.py"
    shutil.copy(shared / "losses.py", shared / "losses_v2.py")
    assert energy_patch("apply", script).exit_code == 0
    (shared / "losses.py").write_text("# moved\n")
    replace(script, "from losses import", "from losses_v2 import")
    message = refused(energy_patch, "conflict", "apply", "--strategy", "queue", script)
    for words in re.findall(r"run (\w+) first, then (\w+)", message)[0]:
        ran = energy_patch(*shlex.split(words), script)
        assert ran.exit_code == 0, ran.stderr

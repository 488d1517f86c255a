"""Every refusal: reason, line, what was seen and what to do; nothing written, no traceback.

A refusal is `tests/refusals/NAME.py`, a whole script: its first line has the options, its second
`# refused (REASON), line LINE: WORDS OF THE MESSAGE`, without the line where the refusal names none.
"""

from __future__ import annotations

import os
import re
import shlex
import sys
from pathlib import Path

import pytest

from tests.conftest import Command, snapshot

REFUSALS = Path(__file__).parents[1] / "refusals"
EXPECTED = re.compile(r"# refused \((?P<reason>[a-z-]+)\)(?:, line (?P<line>\d+))?: (?P<words>.+)")
IMPORT = "from energy.energy_model import energy_inbatch_swap_infonce\n"


def call(arguments: str) -> str:
    return f"{IMPORT}def run(m, h, a, mask, *args, **kw):\n    return energy_inbatch_swap_infonce({arguments})\n"


@pytest.mark.parametrize("case", sorted(REFUSALS.glob("*.py")), ids=lambda path: path.stem)
def test_refusal(case: Path, tmp_path: Path, energy_patch: Command) -> None:
    text = case.read_text("utf-8")
    first, second = text.splitlines()[:2]
    options = shlex.split(first.removeprefix("# energy-patch apply"))
    expected = EXPECTED.fullmatch(second)
    assert expected is not None
    line = int(expected["line"]) if expected["line"] else None
    assert_refused(text, options, expected["reason"], line, expected["words"], tmp_path, energy_patch)


def test_nested_too_deeply(tmp_path: Path, energy_patch: Command) -> None:
    text = f"{IMPORT}y = a{'.b' * 2400}\nx = energy_inbatch_swap_infonce(m, h, a)\n"
    assert_refused(text, [], "unreadable", None, "nested too deeply", tmp_path, energy_patch)


def assert_refused(
    text: str,
    options: list[str],
    reason: str,
    line: int | None,
    words: str,
    folder: Path,
    energy_patch: Command,
) -> None:
    script = folder / "train.py"
    script.write_text(text, "utf-8")
    ran = energy_patch("apply", *options, "--json", script)
    answer = ran.json["scripts"][0]
    assert (ran.exit_code, answer["outcome"], answer["reason"], answer["line"]) == (1, "refused", reason, line), answer
    assert words in answer["message"]
    assert snapshot(folder) == {"train.py": text.encode()}

    told = energy_patch("apply", *options, script).stderr
    where = f"{script}:{line}: " if line else f"{script}: "
    assert told.startswith(f"{where}refused ({reason}): ")
    assert told.count("\n") == 1


@pytest.mark.parametrize(
    ("raw", "line", "words"),
    [
        (b"import torch\0", None, "NUL"),
        (b"# -*- coding: nonsense -*-\n", 1, "encoding"),
        (b"# coding: rot13\nk = 1\n", None, "is not rot13"),
        (b"x = 1\ny = '\xff'\n", 2, "0xff is not utf-8"),
        (None, None, "no such file"),
    ],
)
def test_unreadable(raw: bytes | None, line: int | None, words: str, tmp_path: Path, energy_patch: Command) -> None:
    script = tmp_path / "train.py"
    if raw is not None:
        script.write_bytes(raw)
    for command in ("apply", "revert", "status"):
        ran = energy_patch(command, "--json", script)
        answer = ran.json["scripts"][0]
        assert (ran.exit_code, answer["reason"], answer["line"]) == (1, "unreadable", line)
        assert words in answer["message"]
    assert snapshot(tmp_path) == ({} if raw is None else {"train.py": raw})


@pytest.mark.skipif(sys.platform == "win32", reason="has no pipes with names")
def test_a_pipe_is_not_waited_for(tmp_path: Path, energy_patch: Command) -> None:
    script = tmp_path / "train.py"
    os.mkfifo(script)
    for command in ("apply", "revert", "status", "diagnose"):
        ran = energy_patch(command, script)
        assert "is not a regular file" in ran.stdout.decode() + ran.stderr
    assert energy_patch("apply", script, script.with_name("other.py")).exit_code == 1
    assert "is a folder without Python files" in energy_patch("apply", tmp_path).stderr
    beside = tmp_path / "beside.py"
    beside.write_text(call("m, h, a, mask"))
    assert energy_patch("apply", beside).exit_code == energy_patch("revert", beside).exit_code == 0


@pytest.mark.skipif(sys.platform != "linux", reason="names are text there")
def test_a_name_that_is_not_utf_8(tmp_path: Path, energy_patch: Command) -> None:
    script, plain = tmp_path / os.fsdecode(b"tr\xffain.py"), tmp_path / "train.py"
    script.write_text(call("m, h, a, mask"))
    ran = energy_patch("apply", script)
    assert ran.exit_code == 1
    assert "refused (unsupported): its name is not UTF-8" in ran.stderr
    script.rename(plain)
    assert energy_patch("apply", plain).exit_code == 0
    script.write_bytes(plain.read_bytes())
    for command in ("status", "apply", "revert"):
        assert energy_patch(command, plain).exit_code == 0
    assert (tmp_path / "energy_losses").exists()  # the copy imports it


def test_a_foreign_folder_stays(tmp_path: Path, energy_patch: Command) -> None:
    script = tmp_path / "train.py"
    script.write_text(call("m, h, a, mask"))
    (tmp_path / "energy_losses").mkdir()
    (tmp_path / "energy_losses" / "mine.py").write_text("x = 1\n")
    before = snapshot(tmp_path)
    ran = energy_patch("apply", "--no-sync", script)
    assert ran.exit_code == 1
    assert "refused (conflict)" in ran.stderr
    assert snapshot(tmp_path) == before


def test_a_module_that_our_folder_would_hide(tmp_path: Path, energy_patch: Command) -> None:
    script = tmp_path / "train.py"
    script.write_text(f"from energy_losses import margin\n{call('m, h, a, mask')}")
    (tmp_path / "energy_losses.py").write_text("margin = 1\n")
    before = snapshot(tmp_path)
    for option in ("--json", "--check", "--dry-run"):
        assert energy_patch("apply", option, script).exit_code == 1
    told = energy_patch("apply", script).stderr
    assert "refused (conflict): energy_losses.py beside the script would be hidden by the folder energy_losses/" in told
    assert told.count("\n") == 1
    assert energy_patch("revert", script).exit_code == 0
    assert snapshot(tmp_path) == before


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("--tau 0", "--tau must be a positive finite number, not 0.0"),
        ("--tau -1", "--tau must be a positive finite number, not -1.0"),
        ("--tau nan", "--tau must be a positive finite number, not nan"),
        ("--tau inf", "--tau must be a positive finite number, not inf"),
        ("--tau many", "'many' is not a valid float"),
        ("--min-distance 0", "--min-distance must be a positive finite number, not 0.0"),
        ("--strategy queue --queue-size 0", "--queue-size must be at least 1, not 0"),
        ("--strategy hybrid --layer-actions a.b", "--layer-actions must be the name of a variable, not 'a.b'"),
        ("--strategy best", "'best' is not one of "),
        ("--queue 3", "No such option"),
        ("--num-negatives 3", "--num-negatives is not an option of strategy global"),
        ("--full", "--full belongs to --dry-run"),
    ],
)
def test_usage_errors(options: str, said: str, tmp_path: Path, energy_patch: Command) -> None:
    script = tmp_path / "train.py"
    script.write_text(call("m, h, a, mask"))
    before = snapshot(tmp_path)
    ran = energy_patch("apply", *options.split(), script)
    assert (ran.exit_code, ran.stdout) == (2, b"")
    assert "Error: " in ran.stderr
    assert said in ran.stderr
    assert snapshot(tmp_path) == before


def test_options_within_their_bounds_are_no_usage_errors(tmp_path: Path, energy_patch: Command) -> None:
    script = tmp_path / "train.py"
    script.write_text(call("m, h, a, mask"))
    for options in ("--tau 0.001", "--min-distance 0.001", "--strategy queue --queue-size 1"):
        assert energy_patch("apply", "--dry-run", *options.split(), script).exit_code == 0

"""Every refusal: reason, line, what was seen and what to do; nothing written, no traceback.

A refusal is `tests/refusals/NAME.py`, a whole script: its first line has the options, its second
`# refused (REASON), line LINE: WORDS OF THE MESSAGE`, without the line where the refusal names none.
"""

from __future__ import annotations

import re
import shlex
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


def test_a_folder_is_no_script(tmp_path: Path, energy_patch: Command) -> None:
    ran = energy_patch("apply", tmp_path)
    assert ran.exit_code == 1
    assert "refused (unreadable): is a folder" in ran.stderr


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


@pytest.mark.parametrize(
    "options",
    [
        "--tau 0",
        "--tau -1",
        "--tau nan",
        "--tau inf",
        "--tau many",
        "--strategy best",
        "--queue 3",
        "--min-distance 0",
        "--full",
        "--broadcast-after 3",
        "--average-before 3",
    ],
)
def test_usage_errors(options: str, tmp_path: Path, energy_patch: Command) -> None:
    script = tmp_path / "train.py"
    script.write_text(call("m, h, a, mask"))
    before = snapshot(tmp_path)
    ran = energy_patch("apply", *options.split(), script)
    assert (ran.exit_code, ran.stdout) == (2, b"")
    assert "Error: " in ran.stderr
    assert snapshot(tmp_path) == before


def test_several_scripts_are_all_or_none(tmp_path: Path, energy_patch: Command) -> None:
    good, bad = tmp_path / "good.py", tmp_path / "bad.py"
    good.write_text(call("m, h, a, mask"))
    bad.write_text("import torch\n")
    before = snapshot(tmp_path)
    ran = energy_patch("apply", "--no-sync", "--json", good, bad)
    assert ran.exit_code == 1
    assert [item["outcome"] for item in ran.json["scripts"]] == ["not-attempted", "refused"]
    assert snapshot(tmp_path) == before

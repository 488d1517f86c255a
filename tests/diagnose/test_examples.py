"""Every check speaks and is silent where its own examples say, and the script is understood in both."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from energy_patch.diagnose.check import MARK, Check, Example
from energy_patch.diagnose.checks import checks
from tests.conftest import Command, snapshot
from tests.diagnose.scripts import only


def examples(kind: str) -> list[Any]:
    return [
        pytest.param(check, example, id=f"{check.name}: {example.what}")
        for check in checks()
        for example in getattr(check, kind)
    ]


def findings(energy_patch: Command, folder: Path, example: Example) -> list[dict[str, Any]]:
    for name, text in {"finetune.py": example.script, **example.files}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, "utf-8")
    before = snapshot(folder)
    ran = energy_patch("diagnose", "--json", "--gpus", example.gpus, folder / "finetune.py")
    assert (ran.exit_code, snapshot(folder)) == (0, before)
    found: list[dict[str, Any]] = only(ran)["findings"]
    return found


def marked(folder: Path, example: Example) -> list[tuple[str, int]]:
    return [
        (str(folder / name), number)
        for name, text in {"finetune.py": example.script, **example.files}.items()
        for number, line in enumerate(text.splitlines(), start=1)
        if line.endswith(MARK)
    ]


@pytest.mark.parametrize(("check", "example"), examples("speaks"))
def test_speaks(energy_patch: Command, tmp_path: Path, check: Check, example: Example) -> None:
    found = findings(energy_patch, tmp_path, example)
    own = [item for item in found if item["name"] == check.name]
    assert [(item["path"], item["line"]) for item in own] == marked(tmp_path, example)
    assert all(item["title"] and item["why"] and item["cure"] for item in own)
    assert sorted(item["name"] for item in found if item["name"] != check.name) == sorted(example.others)


@pytest.mark.parametrize(("check", "example"), examples("silent"))
def test_is_silent(energy_patch: Command, tmp_path: Path, check: Check, example: Example) -> None:
    """What other checks find in it shows that the script was read, and that the silence is about this check."""
    assert example.others, "nothing would show that the script was understood"
    found = findings(energy_patch, tmp_path, example)
    assert sorted(item["name"] for item in found) == sorted(example.others)
    assert marked(tmp_path, example) == []

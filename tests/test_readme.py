"""What the READMEs say is what the program does; `.ci/run` runs their commands as written."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

import pytest

from energy_patch.refusal import Reason
from energy_patch.strategies.registry import DEFAULT, strategies
from tests.conftest import Command

ROOT = Path(__file__).parents[1]
READMES = [ROOT / "README.md", ROOT / "README.zh-CN.md"]


def commands(path: Path) -> list[str]:
    """All commands of the shell blocks, without their comments."""
    blocks = re.findall(r"```bash\n(.*?)```", path.read_text("utf-8"), re.DOTALL)
    lines = [re.sub(r"\s*#.*", "", line) for block in blocks for line in block.splitlines()]
    return [line for line in lines if line]


def test_both_languages_give_the_same_commands() -> None:
    english, chinese = (commands(path) for path in READMES)
    assert english == chinese
    assert english[0].endswith("energy-patch demo")
    assert english[1].endswith("python -m pytest -n 2 --dist loadfile")


def test_the_commands_exist(energy_patch: Command) -> None:
    named = {line.split()[1] for line in commands(READMES[0]) if line.startswith("energy-patch ")}
    for name in named:
        assert energy_patch(name, "--help").exit_code == 0


@pytest.mark.parametrize("path", READMES, ids=lambda path: path.name)
def test_strategies_fields_and_reasons_are_those_of_the_code(path: Path) -> None:
    """The table says what there is; a strategy of two files need not stand in it to work."""
    text = path.read_text("utf-8")
    named = [name for name in re.findall(r"^\| `([\w-]+)`", text, re.MULTILINE) if name in strategies()]
    assert named[0] == DEFAULT
    assert len({*named}) > 1
    for name in named:
        for option in strategies()[name].options:
            assert option.only_when_given or option.field in text, option.flag
    for reason in get_args(Reason):
        assert f"| `{reason}` |" in text


@pytest.mark.parametrize("path", READMES, ids=lambda path: path.name)
def test_links_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", path.read_text("utf-8")):
        assert (ROOT / target).exists(), target

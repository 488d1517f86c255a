"""A finding is one file, a strategy is two: either is found, documented and shown without touching anything else."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import energy_patch.diagnose.checks as checks_folder
import energy_patch.strategies as strategies_folder
from energy_patch.diagnose.checks import checks
from energy_patch.diagnose.document import page
from energy_patch.diagnose.examples import LOOP
from energy_patch.strategies.registry import strategies
from tests.conftest import Command
from tests.diagnose.scripts import only

DOCS = Path(__file__).parents[2] / "docs" / "findings.md"
CHECK = """\
from energy_patch.diagnose.check import Check, Example, Found


def find(study):
    yield from (Found(call, "a call", "it is there") for call, _ in study.loss)


CHECK = Check(
    "added-check", 95, "a call", "it is there", "leave it", find, (Example("a", "b"),), (Example("c", "d"),)
)
"""
STRATEGY = """\
from energy_patch.strategies.base import Cost, Strategy


def cost(world_size, batch, action_bytes, options):
    return Cost(4321, 1, 0)


STRATEGY = Strategy(
    name="added", summary="an addition", advice="take it in this test", cost=cost, on_one_rank="it helps one rank"
)
"""


@pytest.fixture
def added(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Puts one more file into the folder of a registry."""

    def add(package: object, cached: Callable[[], object], name: str, text: str) -> None:
        folder = tmp_path / "added"
        folder.mkdir(exist_ok=True)
        (folder / f"{name}.py").write_text(text, "utf-8")
        monkeypatch.setattr(package, "__path__", [*package.__path__, str(folder)])  # type: ignore[attr-defined]
        cached.cache_clear()  # type: ignore[attr-defined]

    yield add
    checks.cache_clear()
    strategies.cache_clear()


def test_a_check_in_a_file_of_its_own(energy_patch: Command, tmp_path: Path, added: Callable[..., None]) -> None:
    script = tmp_path / "finetune.py"
    script.write_text(LOOP, "utf-8")
    before = [item["name"] for item in only(energy_patch("diagnose", "--json", script))["findings"]]
    added(checks_folder, checks, "added_check", CHECK)
    found = [item["name"] for item in only(energy_patch("diagnose", "--json", script))["findings"]]
    assert before == ["local-negatives", "separate-models"]
    assert found == ["local-negatives", "added-check", "separate-models"]  # by its weight
    assert "## added-check" in page()


def test_a_strategy_shows_in_diagnose(energy_patch: Command, tmp_path: Path, added: Callable[..., None]) -> None:
    script = tmp_path / "finetune.py"
    script.write_text(LOOP, "utf-8")
    assert "added" not in energy_patch("diagnose", script).stdout.decode()
    added(strategies_folder, strategies, "added", STRATEGY)
    answer = only(energy_patch("diagnose", "--json", script))
    assert {row["name"]: row["negatives"] for row in answer["numbers"]}["added"] == 4321
    assert "take it in this test" in energy_patch("diagnose", script).stdout.decode()
    alone = only(energy_patch("diagnose", "--json", "--gpus", 1, script))["recommendation"]
    assert (alone["strategy"], alone["why"]) == ("added", "it helps one rank")


def test_names_are_file_names() -> None:
    files = {path.stem.replace("_", "-") for path in Path(checks_folder.__file__).parent.glob("[a-z]*.py")}
    assert {check.name for check in checks()} == files
    assert all(check.speaks and check.silent for check in checks())
    weights = [check.weight for check in checks()]
    assert weights == sorted(weights, reverse=True)


def test_the_page_of_findings_is_up_to_date() -> None:
    """Written by `python -m energy_patch.diagnose.document > docs/findings.md`."""
    assert DOCS.read_text("utf-8") == page()


def test_nothing_else_names_a_strategy() -> None:
    """The recommended one is named where the registry is, and that is all that `diagnose` needs."""
    names = re.compile(rf"[\"'`\s]({'|'.join(name for name in strategies() if name not in ('global', 'layer'))})[\"'`]")
    for path in Path(checks_folder.__file__).parents[1].rglob("*.py"):
        assert not names.search(path.read_text("utf-8")), path


def test_nothing_else_names_a_finding() -> None:
    """The engine, the advice and the other checks know what a finding declares, not which there are."""
    names = re.compile(rf"[\"'`]({'|'.join(check.name for check in checks())})[\"'`]")
    folder = Path(checks_folder.__file__).parents[1]
    files = [path for path in folder.rglob("*.py") if path.name != "examples.py"]  # what else is found in them
    assert len(files) > 20
    for path in files:
        text = path.read_text("utf-8")
        if path.parent == folder:
            assert not names.search(text), path
        assert "energy_patch.diagnose.checks." not in text, path

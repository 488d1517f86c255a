"""`--json`: one shape for all commands and outcomes. `Ran.json` holds every answer of every test against the schema."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import pytest

from energy_patch.refusal import Reason
from energy_patch.report.contract import VERSION
from energy_patch.report.outcome import CommandName, OutcomeName
from tests.conftest import Command
from tests.scripts.json_schema import SCHEMA, faults

SCRIPT = """\
from energy.energy_model import energy_inbatch_swap_infonce

def forward(energy_model, h, a, mask):
    return energy_inbatch_swap_infonce(energy_model, h, a, mask)[0]
"""


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "train.py"
    path.write_text(SCRIPT)
    return path


def test_every_outcome(script: Path, energy_patch: Command) -> None:
    def answer(*arguments: str, code: int = 0) -> tuple[str | None, str]:
        ran = energy_patch(*arguments, "--json", script)
        assert ran.exit_code == code, ran.stderr
        return ran.json["command"], ran.json["outcome"]

    other = script.with_name("other.py")
    other.write_text(SCRIPT + "other = energy_inbatch_swap_infonce\n")
    together = energy_patch("apply", "--json", script, other)
    seen = {item["outcome"] for item in together.json["scripts"]}
    assert seen == {"refused", "not-attempted"}

    answers = [
        answer("status"),
        answer("revert"),
        answer("diagnose"),
        answer("apply", "--dry-run"),
        answer("apply", "--check", code=3),
        answer("apply"),
        answer("apply"),
        answer("status"),
        answer("diagnose"),
        answer("apply", "--strategy", "best", code=2),
        answer("apply", "--tau", "0", code=2),
        answer("status", "--unknown", code=2),
    ]
    script.write_text(script.read_text().replace("replicate(energy_model)", "replicate(h)"))
    answers += [answer("status", code=1), answer("apply", code=1), answer("diagnose")]
    script.write_text(script.read_text().replace("replicate(h)", "replicate(energy_model)"))
    answers += [answer("revert", "--dry-run"), answer("revert")]
    assert script.read_text() == SCRIPT
    assert answers == [
        ("status", "not-applied"),
        ("revert", "not-applied"),
        ("diagnose", "diagnosed"),
        ("apply", "would-change"),
        ("apply", "would-change"),
        ("apply", "patched"),
        ("apply", "already-applied"),
        ("status", "already-applied"),
        ("diagnose", "diagnosed"),
        ("apply", "wrong-usage"),
        ("apply", "wrong-usage"),
        ("status", "wrong-usage"),
        ("status", "patch-modified"),
        ("apply", "refused"),
        ("diagnose", "diagnosed"),
        ("revert", "would-change"),
        ("revert", "reverted"),
    ]
    outcomes = seen | {outcome for _, outcome in answers}
    assert outcomes >= {*get_args(OutcomeName)}


def test_the_schema_names_what_the_code_names() -> None:
    properties, item = SCHEMA["properties"], SCHEMA["$defs"]["script"]["properties"]
    assert properties["version"]["const"] == VERSION
    assert {*properties["command"]["enum"]} == {*get_args(CommandName), "demo", None}
    assert {*item["outcome"]["enum"]} == {*get_args(OutcomeName), "diagnosed"}
    assert {*properties["outcome"]["enum"]} == {
        *({*get_args(OutcomeName)} - {"not-attempted"}),
        *("diagnosed", "wrong-usage", "internal-error"),
    }
    assert {*item["reason"]["enum"]} == {*get_args(Reason), None}


def test_what_is_written_is_listed(script: Path, energy_patch: Command) -> None:
    ran = energy_patch("apply", "--strategy", "queue", "--queue-size", 32, "--no-sync", "--json", script)
    changes = {Path(item["path"]).name: item["change"] for item in ran.json["files"]}
    assert changes.pop("train.py") == "changed"
    assert {*changes} == {path.name for path in (script.parent / "energy_losses").iterdir()}
    assert {*changes.values()} == {"new"}
    (only,) = ran.json["scripts"]
    assert (only["strategy"], only["options"]) == ("queue", {"queue_size": 32, "no_sync": True})
    assert any("temperature" in note for note in only["notes"])
    reverted = energy_patch("revert", "--json", script).json
    assert {item["change"] for item in reverted["files"]} == {"changed", "removed"}
    assert reverted["scripts"][0]["strategy"] == "queue"


def test_a_fault_of_the_call_is_said(script: Path, energy_patch: Command) -> None:
    ran = energy_patch("apply", "--queue-size", "3", "--json", script)
    assert (ran.exit_code, ran.json["scripts"]) == (2, [])
    assert ran.json["message"].startswith("--queue-size is not an option of strategy global")
    assert "Error: --queue-size is not an option" in ran.stderr


def _forget(tree: dict[str, Any]) -> None:
    del tree["scripts"][0]["strategy"]


def _add(tree: dict[str, Any]) -> None:
    tree["scripts"][0]["edits"][0]["column"] = 3


def _rename(tree: dict[str, Any]) -> None:
    tree["scripts"][0]["outcome"] = "done"


def _retype(tree: dict[str, Any]) -> None:
    tree["scripts"][0]["edits"][0]["line"] = "3"


def _zero(tree: dict[str, Any]) -> None:
    tree["scripts"][0]["edits"][0]["line"] = 0


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (_forget, "$.scripts[0] has no strategy"),
        (_add, "$.scripts[0].edits[0] has column, which the schema does not know"),
        (_rename, "$.scripts[0].outcome is 'done', none of"),
        (_retype, "$.scripts[0].edits[0].line is '3', not integer"),
        (_zero, "$.scripts[0].edits[0].line is 0, below 1"),
    ],
)
def test_what_is_not_as_the_schema_says_is_noticed(
    change: Callable[[dict[str, Any]], None], said: str, script: Path, energy_patch: Command
) -> None:
    answer = energy_patch("apply", "--json", script).json
    changed = copy.deepcopy(answer)
    change(changed)
    assert [*faults(answer)] == []
    (fault,) = faults(changed)
    assert fault.startswith(said)

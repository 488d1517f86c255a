"""A newer version of the tool: `status` says that modules are older, `apply` updates those that nobody edited."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from energy_patch.record.schema import module_hash
from tests.commands.test_switch import SCRIPT
from tests.conftest import Command, snapshot

OLD = b"# as an older version had it\n"


@pytest.fixture
def script(tmp_path: Path, energy_patch: Command) -> Path:
    """A script that was patched by an older version: its ranks.py was another."""
    path = tmp_path / "train.py"
    path.write_bytes(SCRIPT)
    assert energy_patch("apply", path).exit_code == 0
    record = tmp_path / "energy_losses" / "patch.json"
    tree = json.loads(record.read_text("utf-8"))
    tree["modules"]["ranks.py"], tree["tool"] = module_hash(OLD), "0.0.1"
    record.write_text(json.dumps(tree), "utf-8")
    (tmp_path / "energy_losses" / "ranks.py").write_bytes(OLD)
    return path


def test_status_says_so_and_apply_updates(script: Path, energy_patch: Command) -> None:
    current = script.with_name("fresh") / "train.py"
    current.parent.mkdir()
    current.write_bytes(SCRIPT)
    assert energy_patch("apply", current).exit_code == 0

    patched = script.read_bytes()
    told = energy_patch("status", script).stdout.decode()
    assert ": ranks.py in energy_losses/; run apply again to update them" in told
    assert energy_patch("apply", "--check", script).exit_code == 3
    assert energy_patch("apply", script).exit_code == 0
    assert script.read_bytes() == patched
    assert snapshot(script.with_name("energy_losses")) == snapshot(current.with_name("energy_losses"))
    assert "run apply again" not in energy_patch("status", script).stdout.decode()
    assert energy_patch("apply", "--check", script).exit_code == 0


def test_an_edited_module_is_left_alone(script: Path, energy_patch: Command) -> None:
    mine = script.with_name("energy_losses") / "ranks.py"
    mine.write_bytes(b"# mine\n")
    assert "energy_losses/ranks.py was edited since it was copied" in energy_patch("status", script).stdout.decode()
    assert energy_patch("apply", script).exit_code == 0
    assert mine.read_bytes() == b"# mine\n"

"""Before and after, one short file for each way to write the call; every file goes through the whole life of a patch.

A case is `tests/cases/NAME.py`: a first line with the options, the script before, a rule, the script after.
`ENERGY_PATCH_UPDATE_CASES=1` writes the part after the rule anew, to be read before it is committed.
"""

from __future__ import annotations

import os
import shlex
from pathlib import Path

import pytest

from tests.conftest import Command, snapshot

CASES = Path(__file__).parents[1] / "cases"
RULE = "# ==== after ====\n"


@pytest.mark.parametrize("case", sorted(CASES.glob("*.py")), ids=lambda path: path.stem)
def test_case(case: Path, tmp_path: Path, energy_patch: Command) -> None:
    first, _, rest = case.read_text("utf-8").partition("\n")
    options = shlex.split(first.removeprefix("# energy-patch apply"))
    before, _, after = rest.partition(RULE)
    script = tmp_path / "train.py"
    script.write_text(before, "utf-8")

    applied = energy_patch("apply", *options, script)
    assert applied.exit_code == 0, applied.stderr
    if os.environ.get("ENERGY_PATCH_UPDATE_CASES"):
        case.write_text(f"{first}\n{before}{RULE}{script.read_text('utf-8')}", "utf-8")
    else:
        assert script.read_text("utf-8") == after
    compile(script.read_bytes(), script, "exec")

    patched = snapshot(tmp_path)
    again = energy_patch("apply", *options, "--json", script)
    assert (again.exit_code, again.json["outcome"]) == (0, "already-applied")
    assert energy_patch("apply", "--check", script).exit_code == 0
    assert snapshot(tmp_path) == patched

    assert energy_patch("revert", script).exit_code == 0
    assert snapshot(tmp_path) == {"train.py": before.encode()}

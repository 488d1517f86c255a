"""Generated scripts are patched, run with stand-ins, and taken back.

What must hold for each: no traceback; a refusal writes nothing; the patch compiles, is a no-op the second time and is
taken back to the byte; and the patched script, *run*, hands the new loss what the original received, and hands every
model to `replicate` before the loss.

`ENERGY_PATCH_EXAMPLES=5000` runs more of them.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, event, given, settings

from tests.conftest import run_command, snapshot
from tests.scripts.generated.scripts import Script, inputs
from tests.scripts.generated.stand_ins import run

EXAMPLES = int(os.environ.get("ENERGY_PATCH_EXAMPLES", "150"))
PATCHED = 0.9  # of all scripts


def check_events(script: Script, before: list[tuple[Any, ...]], after: list[tuple[Any, ...]]) -> None:
    kept = [entry for entry in after if entry[0] != "replicate"]
    expected = [(*entry[:-1], script.tau) if entry[0] == "loss" else entry for entry in before]
    assert kept == expected
    replicated: set[int] = set()
    for name, *rest in after:
        if name == "replicate":
            replicated.add(rest[0])
        assert name != "loss" or rest[0] in replicated


def check(script: Script, raw: bytes, kind: str) -> str:
    """Everything that must hold for one script; what became of it."""
    before = run(raw)
    assert any(entry[0] == "loss" for entry in before)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "train.py"
        path.write_bytes(raw)
        ran = run_command("apply", "--json", path)
        answer = ran.json["scripts"][0]
        if answer["outcome"] == "refused":
            assert ran.exit_code == 1
            assert answer["message"]
            assert "report" not in answer["message"], answer
            assert snapshot(Path(folder)) == {"train.py": raw}
            return f"refused ({answer['reason']}): {re.sub(r'[0-9]+', 'N', answer['message'])[:90]}"
        assert (ran.exit_code, answer["outcome"]) == (0, "patched"), answer
        patched = path.read_bytes()
        compile(patched, "train.py", "exec")
        written = snapshot(Path(folder))
        assert run_command("apply", "--json", path).json["outcome"] == "already-applied"
        assert snapshot(Path(folder)) == written
        assert run_command("revert", path).exit_code == 0
        assert snapshot(Path(folder)) == {"train.py": raw}
    # The config field's value is tuned: what is in its reach must follow.
    tuned = patched.replace(b"energy_tau: float = 0.07", b"energy_tau: float = 0.123")
    if script.tau == 0.123 and tuned == patched:
        pytest.fail("the config has no field")
    check_events(script, before, run(tuned))
    return "patched"


def test_generated_scripts() -> None:
    """At least as many are patched as stand for every piece, so that refusals cannot hide what goes wrong."""
    became: Counter[str] = Counter()

    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        derandomize="ENERGY_PATCH_EXAMPLES" not in os.environ,
        database=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example],
        print_blob=False,
        phases=[Phase.generate],  # a script that fails is readable as it is
    )
    @given(inputs())
    def try_one(drawn: tuple[Script, bytes, str]) -> None:
        script, raw, kind = drawn
        try:
            compile(raw, "train.py", "exec")
            run(raw)
        except (SyntaxError, NameError, TypeError) as error:
            raise AssertionError(f"the generator made a script that does not run: {error}\n{script.text}") from error
        try:
            outcome = check(script, raw, kind)
        except AssertionError as error:
            raise AssertionError(f"{script.pieces}\n{script.text}") from error
        event(outcome)
        became[outcome] += 1

    try_one()
    assert became.total() >= EXAMPLES, became
    assert became["patched"] >= PATCHED * became.total(), became

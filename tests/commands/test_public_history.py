"""Every version of the public training scripts: patched and taken back byte for byte, or refused with a reason.

Runs over a local clone named by ENERGY_PATCH_PUBLIC_CLONE (a work tree or a bare repository) and is skipped without.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections import Counter
from pathlib import Path

import pytest

from energy_patch.strategies.registry import strategies
from tests.conftest import Command, snapshot
from tests.diagnose.scripts import only

CLONE = os.environ.get("ENERGY_PATCH_PUBLIC_CLONE")
SCRIPT = re.compile(r"vla-scripts/finetune_Energy[^/]*\.py")
CALL = re.compile(rb"^[^#\n]*\benergy_inbatch_swap_infonce\(", re.MULTILINE)

pytestmark = pytest.mark.skipif(not CLONE, reason="ENERGY_PATCH_PUBLIC_CLONE names no clone")


def git(*arguments: str) -> bytes:
    return subprocess.run(["git", "-C", CLONE or ".", *arguments], capture_output=True, check=True, timeout=120).stdout


def versions() -> dict[str, str]:
    """Object names of all versions of the scripts in all branches, with their file names."""
    found: dict[str, str] = {}
    for line in (
        git("log", "--all", "--raw", "--no-abbrev", "--no-renames", "--format=", "--", "vla-scripts")
        .decode()
        .splitlines()
    ):
        fields, _, path = line.partition("\t")
        name = fields.split()[3]
        if SCRIPT.fullmatch(path) and set(name) != {"0"}:
            found[name] = Path(path).name
    return found


@pytest.mark.parametrize("strategy", strategies())
def test_every_version(
    strategy: str, tmp_path: Path, energy_patch: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    counts: Counter[str] = Counter()
    for name, file_name in versions().items():
        raw = git("cat-file", "blob", name)
        folder = tmp_path / name
        folder.mkdir()
        script = folder / file_name
        script.write_bytes(raw)
        ran = energy_patch("apply", "--strategy", strategy, "--json", script)
        answer = ran.json["scripts"][0]
        counts[answer["reason"] or answer["outcome"]] += 1
        if CALL.search(raw):
            assert (ran.exit_code, answer["outcome"]) == (0, "patched"), (name, answer)
            compile(script.read_bytes(), script, "exec")
            patched = snapshot(folder)
            assert energy_patch("apply", "--strategy", strategy, "--json", script).json["outcome"] == "already-applied"
            assert snapshot(folder) == patched
            assert energy_patch("revert", script).exit_code == 0
        else:
            assert (ran.exit_code, answer["reason"]) == (1, "not-found"), (name, answer)
        assert snapshot(folder) == {file_name: raw}
    assert sum(counts.values()) > 100
    with capsys.disabled():
        print(f"\n{strategy}: {dict(counts)}")


def test_diagnose_every_version(tmp_path: Path, energy_patch: Command, capsys: pytest.CaptureFixture[str]) -> None:
    """Each trains an energy model of its own on every rank, whether its loss can be patched or not."""
    counts: Counter[str] = Counter()
    for name, file_name in versions().items():
        script = tmp_path / name / file_name
        script.parent.mkdir()
        script.write_bytes(git("cat-file", "blob", name))
        answer = only(energy_patch("diagnose", "--json", script))
        found = {finding["name"] for finding in answer["findings"]}
        counts.update(found)
        assert "separate-models" in found, name
        assert ("local-negatives" in found) == bool(CALL.search(script.read_bytes())), name
    assert sum(counts.values()) > 400
    with capsys.disabled():
        print(f"\ndiagnose: {dict(counts)}")

"""A strategy is two files: put beside the others, it is offered, applied, trained with, shown and taken back."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import snapshot
from tests.distributed.test_labs import LABS, RULE, run_script
from tests.scripts.folder_cases import SCRIPT

ROOT = Path(__file__).parents[2]
STRATEGY = '''\
"""regularized: global, and a penalty on large energies."""

from energy_patch.strategies import global_infonce
from energy_patch.strategies.base import TAU, Option, Strategy

PENALTY = Option(
    "--penalty",
    kind="field",
    default=0.1,
    help="Weight of the squared energies.",
    field="energy_penalty",
    keyword="penalty",
    comment="Weight of the squared energies",
)

STRATEGY = Strategy(
    name="regularized",
    summary="global, and a penalty on large energies",
    advice="where energies grow without bound",
    cost=global_infonce.cost,
    module="regularized_infonce",
    function="regularized_energy_infonce_loss",
    positional=("energy_model", "h", "a_pos", "pad_mask", "tau"),
    options=(TAU, PENALTY),
    passes_world_size=True,
)
'''
TEMPLATE = '''\
"""The loss over the actions of all ranks, and a penalty on large energies."""

from .global_infonce import distributed_energy_inbatch_swap_infonce


def regularized_energy_infonce_loss(
    energy_model, h, a_pos, pad_mask=None, tau=0.5, world_size=None, *, penalty=0.1, group=None
):
    loss, positive, negative = distributed_energy_inbatch_swap_infonce(
        energy_model, h, a_pos, pad_mask, tau, world_size, group=group
    )
    return loss + penalty * (positive**2 + negative**2), positive, negative
'''
# The two folders, each with one more file: what a checkout has that holds them.
WITH_BOTH = """\
import sys
from pathlib import Path
import energy_patch.files.templates as templates
import energy_patch.strategies as strategies
added = Path(sys.argv.pop(1))
strategies.__path__.append(str(added / "strategies"))
templates.templates_folder = lambda: added / "energy_losses"
from energy_patch.cli import run
run()
"""


@pytest.fixture
def added(tmp_path: Path) -> Path:
    folder = tmp_path / "added"
    shutil.copytree(ROOT / "templates" / "energy_losses", folder / "energy_losses")
    (folder / "energy_losses" / "regularized_infonce.py").write_text(TEMPLATE)
    (folder / "strategies").mkdir()
    (folder / "strategies" / "regularized.py").write_text(STRATEGY)
    return folder


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    folder = tmp_path / "repository"
    shutil.copytree(LABS / "repository", folder)
    text = (ROOT / "tests" / "cases" / "labs_draccus.py").read_text("utf-8")
    before = text.partition("\n")[2].partition(RULE)[0]
    (folder / SCRIPT).write_text(before.replace(", tau=0.5", ""), "utf-8")
    return folder


def command(added: Path, repository: Path, *arguments: str, code: int = 0) -> str:
    """What the command line says, started anew with both files in their places."""
    words = [sys.executable, "-c", WITH_BOTH, str(added), *arguments]
    ran = subprocess.run(words, cwd=repository, capture_output=True, text=True, timeout=120, check=False)
    assert ran.returncode == code, ran.stderr
    return ran.stdout


def test_without_its_files_there_is_no_such_strategy(added: Path, repository: Path) -> None:
    (added / "strategies" / "regularized.py").unlink()
    command(added, repository, "apply", "--strategy", "regularized", SCRIPT, code=2)


def test_two_files_make_a_strategy(added: Path, repository: Path, pool: Any) -> None:
    before = snapshot(repository)
    usage = command(added, repository, "apply", "--help")
    assert "regularized  global, and a penalty on large energies; where energies grow" in usage
    assert "--penalty FLOAT" in usage
    (found,) = json.loads(command(added, repository, "diagnose", "--json", SCRIPT))["scripts"]
    rows = {row["name"]: row for row in found["numbers"]}
    assert rows["regularized"]["negatives"] == rows["global"]["negatives"] == 23
    assert {"name": "regularized", "advice": "where energies grow without bound"} in found["order"]

    command(added, repository, "apply", SCRIPT)
    command(added, repository, "apply", "--strategy", "regularized", "--penalty", "0.25", SCRIPT)
    text = (repository / SCRIPT).read_text("utf-8")
    assert "    energy_penalty: float = 0.25 " in text
    assert "regularized_energy_infonce_loss(\n" in text
    assert (repository / "energy_losses" / "regularized_infonce.py").read_text() == TEMPLATE
    status = command(added, repository, "status", SCRIPT)
    assert status.startswith(f"{SCRIPT}: patched, strategy regularized --penalty 0.25\n")
    again = json.loads(command(added, repository, "apply", "--json", "--penalty", "0.25", SCRIPT))
    assert again["outcome"] == "already-applied"

    trained = pool.run(2, run_script, str(repository), str(LABS / "site"), seconds=240.0)
    assert trained[0][0] == trained[1][0]
    assert all(now != start for now, start in trained)

    shutil.rmtree(repository / "runs", ignore_errors=True)
    command(added, repository, "revert", SCRIPT)
    assert snapshot(repository) == before

"""The claim: after `apply`, eight ranks with three samples each train exactly as one rank with twenty-four.

The bundled codebase is trained as its users train it, by its own loop, loss, optimizer and clip; a driver in
`tests/scripts/drivers/` looks on. Ranks start from different seeds and pad to different lengths. Three patched scripts
with one thing taken back must fail the same comparison.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.scripts.forked import launch

ROOT = Path(__file__).parents[2]
SAMPLE = ROOT / "energy_patch" / "demo" / "sample"
DRIVERS = Path(__file__).parents[1] / "scripts" / "drivers"
SCRIPT = "finetune_Energy.py"
RANKS, BATCH = 8, 3
LIMIT = 120  # seconds for a process group
TOLERANCE = 1e-5

(OLD_CALL,) = re.findall(
    r"^ *(?!#)\w.* = (energy_inbatch_swap_infonce\(.*\n)", (SAMPLE / SCRIPT).read_text("utf-8"), re.M
)


def copy_sample(folder: Path) -> Path:
    shutil.copytree(SAMPLE, folder, ignore=shutil.ignore_patterns("__pycache__", "runs"))
    return folder / SCRIPT


def energy_patch(folder: Path, *arguments: str) -> None:
    command = [sys.executable, "-m", "energy_patch", *arguments]
    run = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60, check=False)
    assert run.returncode == 0, run.stderr


def patched_sample(folder: Path, strategy: str, *options: str) -> Path:
    script = copy_sample(folder)
    energy_patch(folder, "apply", "--strategy", strategy, *options, SCRIPT)
    return script


def drive(driver: str, folder: Path, script: Path, ranks: int, *arguments: object) -> str:
    """Run a driver on `ranks` gloo ranks; their standard output."""
    folder.mkdir()
    run = launch(ranks, DRIVERS / driver, folder, script, *arguments, seconds=LIMIT)
    assert run.status == 0, run.errors
    return run.output


def train(folder: Path, script: Path, ranks: int, batch: int, steps: int = 3, *flags: object) -> list[dict]:
    """What each rank's energy model went through, dropout off."""
    arguments = ["--batch_size", batch, "--max_steps", steps, "--seed", 11, "--energy_dropout", 0.0]
    arguments += ["--num_held_out", 24, "--held_out_freq", 1000, "--runs", folder / "runs"]
    drive("record_run.py", folder, script, ranks, *arguments, *flags)
    return [torch.load(folder / f"rank{rank}.pt", weights_only=True) for rank in range(ranks)]


def relative_error(value: torch.Tensor, reference: torch.Tensor) -> float:
    difference = (value.double() - reference.double()).norm()
    return float(difference / reference.double().norm())


def gradient_errors(ranks: list[dict], reference: dict) -> list[float]:
    return [relative_error(rank["first_gradient"], reference["first_gradient"]) for rank in ranks]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("truth")


@pytest.fixture(scope="module")
def reference(folder: Path) -> dict:
    (one,) = train(folder / "one_rank", copy_sample(folder / "untouched"), 1, RANKS * BATCH)
    return one


@pytest.fixture(scope="module")
def patched(folder: Path) -> Path:
    return patched_sample(folder / "code", "global", "--tau", "0.5")


@pytest.fixture(scope="module")
def eight(folder: Path, patched: Path) -> list[dict]:
    return train(folder / "eight_ranks", patched, RANKS, BATCH)


def test_ranks_really_differ(eight: list[dict], reference: dict) -> None:
    assert len({rank["seed"] for rank in eight}) == RANKS
    assert len({rank["contexts"][-1] for rank in eight}) > 1
    assert {rank["contexts"][-1][0] for rank in eight} == {BATCH * RANKS * BATCH}  # pairs, as far as a model can see
    assert reference["contexts"][-1][0] == (RANKS * BATCH) ** 2


def test_every_rank_starts_from_rank_0s_weights(eight: list[dict], reference: dict) -> None:
    for rank in eight:
        assert torch.equal(rank["first_weights"], reference["first_weights"])


def test_first_gradient_is_that_of_one_rank_with_the_whole_batch(eight: list[dict], reference: dict) -> None:
    errors = gradient_errors(eight, reference)
    print(f"relative errors of the first gradient: {min(errors):.1e} to {max(errors):.1e}")
    assert max(errors) <= TOLERANCE


def test_weights_stay_bitwise_equal(eight: list[dict]) -> None:
    for rank in eight:
        assert len(rank["weights"]) == 3
        for mine, theirs in zip(rank["weights"], eight[0]["weights"], strict=True):
            assert torch.equal(mine, theirs)


def test_weights_follow_those_of_one_rank(eight: list[dict], reference: dict) -> None:
    moved = reference["weights"][-1] - reference["first_weights"]
    assert relative_error(eight[0]["weights"][-1] - reference["first_weights"], moved) < 0.05


RANKS_MODULE = "energy_losses/ranks.py"
NO_REPLICATE = (SCRIPT, re.compile(r"^ *replicate\(energy_model\)\n", re.M), "")
NO_BROADCAST = (RANKS_MODULE, re.compile(r"^ +broadcast_parameters\(model, group=group\)\n", re.M), "")
LOCAL_NEGATIVES = (SCRIPT, re.compile(r"distributed_energy_inbatch_swap_infonce\([^#\n]*\n"), OLD_CALL)


@pytest.mark.parametrize(
    "taken_back",
    [NO_REPLICATE, NO_BROADCAST, LOCAL_NEGATIVES],
    ids=["no replicate", "hooks but no broadcast", "local negatives"],
)
def test_comparison_fails_without(
    taken_back: tuple[str, re.Pattern[str], str], folder: Path, patched: Path, reference: dict, tmp_path: Path
) -> None:
    file, pattern, replacement = taken_back
    code = tmp_path / "code"
    shutil.copytree(patched.parent, code, ignore=shutil.ignore_patterns("__pycache__"))
    text, count = pattern.subn(replacement, (code / file).read_text(encoding="utf-8"))
    assert count == 1
    (code / file).write_text(text, encoding="utf-8")
    ranks = train(tmp_path / "run", code / SCRIPT, RANKS, BATCH, 1)
    errors = gradient_errors(ranks, reference)
    print(f"relative errors of the first gradient: {min(errors):.3f} to {max(errors):.3f}")
    assert min(errors) > 1000 * TOLERANCE


def test_without_a_patch_ranks_are_different_models(folder: Path, reference: dict) -> None:
    ranks = train(folder / "as_it_is", folder / "untouched" / SCRIPT, RANKS, BATCH, 1)
    assert torch.equal(ranks[0]["first_weights"], reference["first_weights"])
    assert len({float(rank["first_weights"].double().sum()) for rank in ranks}) == RANKS
    assert min(gradient_errors(ranks, reference)) > 0.1


def test_uneven_validation_neither_hangs_nor_communicates(folder: Path, patched: Path) -> None:
    run = folder / "validation"
    drive("uneven_validation.py", run, patched, 4)
    for rank in range(4):
        batches, issued, smallest_loss = (run / f"rank{rank}.txt").read_text().split()
        assert (int(batches), int(issued)) == (rank + 1, 0)
        assert 0 < float(smallest_loss) < 10

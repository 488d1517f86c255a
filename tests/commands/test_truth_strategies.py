"""The claim for every strategy and any accumulation: the gradient of eight ranks is that of one process.

The first gradient, right before it is clipped, of eight ranks with three samples each, against one process that has the
same samples: twenty-four at once where actions travel, eight batches of three one after the other where they do not.
Made negatives are the layers' own actions here: as many as layers serve, so that none is drawn.

Every strategy at accumulation 2, and `global` at 1 and 8 too; ENERGY_PATCH_EVERY_ACCUMULATION=1 tries them all at all
three, which takes some minutes longer.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
import torch

from tests.commands.test_truth import (
    BATCH,
    RANKS,
    SAMPLE,
    SCRIPT,
    TOLERANCE,
    copy_sample,
    energy_patch,
    gradient_errors,
    patched_sample,
    train,
)

CALL = "= energy_inbatch_swap_infonce(energy_model,context_hidden,ground_truth_actions, energy_mask"
LAYERS = ("--num-negatives", "4")


class OneProcess(NamedTuple):
    strategy: str  # "": the script as it is
    at_once: bool


STRATEGIES = {
    "global": ((), OneProcess("", True)),
    "queue": ((), OneProcess("queue", True)),
    "hybrid": (LAYERS, OneProcess("hybrid", True)),
    "adaptive": (LAYERS, OneProcess("hybrid", True)),
    "layer": (LAYERS, OneProcess("layer", False)),
    "local-batch": (("--batch-size", "3"), OneProcess("", False)),
}
EVERY = bool(os.environ.get("ENERGY_PATCH_EVERY_ACCUMULATION"))
RUNS = [(name, micro) for name in STRATEGIES for micro in (1, 2, 8) if EVERY or micro == 2 or name == "global"]


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The sample, patched for a strategy at the default temperature, or as it is but for the temperature."""
    made: dict[str, Path] = {}

    def make(strategy: str) -> Path:
        if strategy not in made:
            folder = tmp_path_factory.mktemp(strategy or "as_it_is") / "code"
            if strategy:
                made[strategy] = patched_sample(folder, strategy, *STRATEGIES[strategy][0])
            else:
                made[strategy] = copy_sample(folder)
            text = made[strategy].read_text("utf-8")
            made[strategy].write_text(text.replace(f"{CALL})", f"{CALL}, tau=0.07)"), "utf-8")
        return made[strategy]

    return make


@pytest.fixture(scope="module")
def one_process(script: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Callable[..., dict]:
    known: dict[tuple[OneProcess, int], dict] = {}

    def reference(kind: OneProcess, micro: int) -> dict:
        if (kind, micro) not in known:
            batch, steps = (RANKS * BATCH, micro) if kind.at_once else (BATCH, RANKS * micro)
            folder = tmp_path_factory.mktemp("one") / "run"
            flags = ["--grad_accumulation_steps", steps]
            (known[kind, micro],) = train(folder, script(kind.strategy), 1, batch, 1, *flags)
        return known[kind, micro]

    return reference


@pytest.mark.parametrize(("strategy", "micro"), RUNS)
def test_eight_ranks_are_one_process(
    strategy: str, micro: int, script: Callable[[str], Path], one_process: Callable[..., dict], tmp_path: Path
) -> None:
    ranks = train(tmp_path / "run", script(strategy), RANKS, BATCH, 3, "--grad_accumulation_steps", micro)
    kind = STRATEGIES[strategy][1]
    errors = gradient_errors(ranks, one_process(kind, micro))
    print(f"{strategy}, accumulation {micro}: relative errors {min(errors):.1e} to {max(errors):.1e}")
    assert max(errors) <= TOLERANCE
    # What differs only in whether the ranks' actions are negatives of each other is not the same.
    other = OneProcess(kind.strategy, not kind.at_once)
    assert min(gradient_errors(ranks, one_process(other, micro))) > 1000 * TOLERANCE
    assert not torch.equal(ranks[0]["first_weights"], ranks[0]["weights"][-1])
    for rank in ranks[1:]:
        assert len(rank["weights"]) == 3
        for mine, theirs in zip(rank["weights"], ranks[0]["weights"], strict=True):
            assert torch.equal(mine, theirs)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_what_was_trained_with_is_taken_back(strategy: str, script: Callable[[str], Path], tmp_path: Path) -> None:
    code = shutil.copytree(script(strategy).parent, tmp_path / "code")
    energy_patch(code, "revert", SCRIPT)
    original = (SAMPLE / SCRIPT).read_text("utf-8")
    if strategy == "local-batch":
        original = original.replace(f"{CALL})", f"{CALL}, tau=0.07)")
    assert (code / SCRIPT).read_text("utf-8") == original
    assert not list(code.glob("energy_losses/*.py"))


@pytest.mark.parametrize("strategy", ["layer", "queue"])
def test_without_the_line_a_strategy_is_not(
    strategy: str, script: Callable[[str], Path], one_process: Callable[..., dict], tmp_path: Path
) -> None:
    code = tmp_path / "code"
    without = patched_sample(code, strategy, "--no-sync", *STRATEGIES[strategy][0])
    ranks = train(tmp_path / "run", without, RANKS, BATCH, 1)
    assert min(gradient_errors(ranks, one_process(STRATEGIES[strategy][1], 1))) > 1000 * TOLERANCE

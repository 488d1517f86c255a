"""All or none, whatever fails: an error, an interrupt or a kill at every single file operation."""

from __future__ import annotations

import contextlib
import errno
import os
import random
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from energy_patch.files.folder import inspect_folder
from energy_patch.files.transaction import ChangeSet, sweep, write_changes
from energy_patch.refusal import Refusal
from energy_patch.unpatch.current import current_entry
from tests.files.faults import (
    Fault,
    faults,
    full_disk,
    full_for_writes,
    interrupt,
    interrupt_behind,
    kill,
    points,
    reset,
)
from tests.files.patched_folder import GLOBAL, ORIGINAL, QUEUE, Operation, everything, modes, planned, run, tree

pytestmark = pytest.mark.usefixtures("small_templates", "quick_disk")

# How the folder comes to be, and what is then done to it
SCENARIOS: dict[str, tuple[list[Operation], Operation]] = {
    "apply": ([], lambda folder: (run(folder, GLOBAL), None)[1]),
    "switch": ([lambda folder: (run(folder, GLOBAL), None)[1]], lambda folder: (run(folder, QUEUE), None)[1]),
    "revert": ([lambda folder: (run(folder, GLOBAL), None)[1]], lambda folder: (run(folder, None), None)[1]),
    "revert one": (
        [lambda folder: (run(folder, GLOBAL), None)[1]],
        lambda folder: (run(folder, None, ("two.py",)), None)[1],
    ),
}


def prepare(folder: Path, scenario: str) -> Operation:
    before, operation = SCENARIOS[scenario]
    for step in before:
        step(folder)
    return operation


@pytest.mark.parametrize("scenario", SCENARIOS)
@pytest.mark.parametrize("fault", [full_disk, full_for_writes, interrupt, interrupt_behind])
def test_a_failure_anywhere_leaves_all_or_nothing(home: Path, scenario: str, fault: Fault) -> None:
    operation = prepare(home, scenario)
    before, mode, found = everything(home), modes(home), planned_for(home, scenario)
    operation(home)
    after = everything(home)
    assert before != after
    for at in points():
        reset(home, before)
        outcome = None
        with faults(at, fault, sticky=fault is full_for_writes) as count:
            try:
                write_changes(found.changes)
            except (Refusal, KeyboardInterrupt) as error:
                outcome = error
        if isinstance(outcome, Refusal):
            assert outcome.reason == "unwritable"
            assert os.strerror(errno.ENOSPC) in outcome.message
            assert everything(home) == before, outcome.message
        else:
            sweep(home)  # an empty folder may be left, or after an interrupt a temporary file
            assert everything(home) in ((before, after) if outcome else (after,))
        assert modes(home) == mode
        if count() < at:
            break
    assert at > 20


def planned_for(folder: Path, scenario: str) -> ChangeSet:
    if scenario.startswith("revert"):
        return planned(folder, None, ("two.py",) if scenario == "revert one" else ("one.py", "two.py"))
    return planned(folder, GLOBAL if scenario == "apply" else QUEUE)


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_a_kill_anywhere_leaves_old_or_new_and_the_next_run_works(home: Path, scenario: str) -> None:
    operation = prepare(home, scenario)
    before, mode, found = everything(home), modes(home), planned_for(home, scenario)
    operation(home)
    after = tree(home)
    for at in points():
        reset(home, before)
        if not killed(at, found):
            break
        now = tree(home)
        for name in ("one.py", "two.py"):
            assert now[name] in (before[name], after[name])
        assert all(name.rpartition("/")[2].startswith(".energy-patch-") for name in set(now) - set(before) - set(after))
        assert modes(home) == mode
        for name in ("one.py", "two.py"):  # whatever it is, it is known
            entry = current_entry(inspect_folder(home).record, name, now[name])
            assert (entry is not None) == (now[name] != ORIGINAL)
        if at % 2:
            operation(home)
            assert tree(home) == after
        else:
            run(home, None)
            assert tree(home) == {"mine.txt": b"mine", "one.py": ORIGINAL, "two.py": ORIGINAL}
    assert at > 20


def killed(at: int, found: ChangeSet) -> bool:
    """Write in a child process that kills itself at its `at`-th file operation."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # newer Pythons warn about forks beside threads
        child = os.fork()
    if child == 0:
        try:
            with faults(at, kill):
                write_changes(found.changes)
        finally:
            os._exit(0)
    return os.WIFSIGNALED(os.waitpid(child, 0)[1])


def test_runs_side_by_side_never_mix(home: Path) -> None:
    """Processes apply, switch and revert the same two scripts at the same time."""
    children = []
    for seed in range(4):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            child = os.fork()
        if child == 0:
            status = 1
            try:
                choices = random.Random(seed)
                for _ in range(12):
                    with contextlib.suppress(Refusal):
                        run(home, choices.choice([GLOBAL, QUEUE, None]))
                status = 0
            finally:
                os._exit(status)
        children.append(child)
    assert [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children] == [0] * 4
    contents = tree(home)
    assert contents["one.py"] == contents["two.py"]
    assert contents["one.py"] in (ORIGINAL, GLOBAL.patched, QUEUE.patched)
    run(home, GLOBAL)
    assert set(tree(home)) == {
        "mine.txt", "one.py", "two.py",
        *(f"energy_losses/{name}" for name in ("__init__.py", "global_infonce.py", "patch.json", "ranks.py")),
    }  # fmt: skip
    run(home, None)
    assert set(tree(home)) == {"mine.txt", "one.py", "two.py"}


def test_a_script_that_changes_at_any_moment_of_the_run(home: Path) -> None:
    before, found = tree(home), planned(home, GLOBAL)
    seen = set()
    for at in points():
        reset(home, before)

        def write_there(name: str, go_on: Callable[[], Any]) -> Any:
            # Not through Path: its operations are the ones that are counted.
            with open(home / "two.py", "wb") as file:  # noqa: PTH123
                file.write(b"somebody else\n")
            return go_on()

        with faults(at, write_there) as count, contextlib.suppress(Refusal):
            write_changes(found.changes)
        if count() < at:
            break
        now = tree(home)
        seen.add(now["two.py"])
        if now["two.py"] == b"somebody else\n" and now["one.py"] == ORIGINAL:
            assert now == {**before, "two.py": b"somebody else\n"}
        else:  # it came after all was written, or between the last look and the replacing, which nobody can close
            assert now["one.py"] == GLOBAL.patched
    assert seen == {b"somebody else\n", GLOBAL.patched}

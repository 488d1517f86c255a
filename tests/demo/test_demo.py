"""The demo tells its story, leaves its files, and leaves no process behind."""

from __future__ import annotations

import contextlib
import csv
import importlib.util
import io
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from energy_patch.demo import results, runner, runs, training
from energy_patch.demo.plot import spread
from energy_patch.refusal import Refusal

SHORT = 2
START_LIMIT, END_LIMIT = 60, 20  # seconds


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    out = tmp_path_factory.mktemp("demo") / "out"
    console = io.StringIO()
    runner.run_demo(out, console, steps=SHORT)
    return out, console.getvalue()


def test_leaves_a_figure_and_numbers(demo: tuple[Path, str]) -> None:
    out, _ = demo
    assert (out / results.FIGURE).read_bytes().startswith(b"\x89PNG")
    with (out / results.CURVES).open(newline="") as file:
        curves = list(csv.DictReader(file))
    assert [row["run"] for row in curves] == [
        name for name in ("as-it-is", "one-rank", "patched", "patched-default") for _ in range(SHORT)
    ]
    with (out / results.TABLE).open(newline="") as file:
        table = {row["run"]: row for row in csv.DictReader(file)}
    assert {name: row["negatives"] for name, row in table.items()} == {
        "as-it-is": "2",
        "one-rank": "23",
        "patched": "23",
        "patched-default": "23",
    }
    assert all(0 <= float(row["top1_last"]) <= 1 < 1000 * float(row["step_seconds"]) for row in table.values())


def test_shows_the_diff_the_table_and_what_to_do_next(demo: tuple[Path, str]) -> None:
    _, text = demo
    assert "+        replicate(energy_model)\n" in text
    assert "held-out top-1 of 24" in text
    assert text.rstrip().endswith("energy-patch apply --strategy global path/to/finetune_Energy.py")


def test_the_table_fits_a_terminal() -> None:
    all_runs = (runs.BEFORE, runs.ONE_RANK, runs.AFTER, runs.WITH_DEFAULT)
    lines = results.table([runs.Trained(run, [1, 250], [0.04, 0.9], [0.5, 2000.5]) for run in all_runs])
    assert {line.split("  ")[0] for line in lines} > {run.label for run in all_runs}
    assert max(len(line) for line in lines) <= 80


def test_trains_the_patched_codebase(demo: tuple[Path, str]) -> None:
    out, _ = demo
    script = out / runner.CODEBASE / training.SCRIPT
    assert "distributed_energy_inbatch_swap_infonce(" in script.read_text(encoding="utf-8")
    assert (out / runner.CODEBASE / "energy_losses" / "patch.json").is_file()
    assert "8 ranks, " in (out / training.RUNS_FOLDER / "patched" / "log.txt").read_text()


def test_writes_again_into_its_own_folder(demo: tuple[Path, str]) -> None:
    out, _ = demo
    runner._make_room(out)
    assert [path.name for path in out.iterdir()] == [runner.MARKER]


def test_refuses_a_folder_that_holds_something_else(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("mine")
    with pytest.raises(Refusal, match="holds something else"):
        runner.run_demo(tmp_path, io.StringIO())
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_command_line_says_no_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("mine")
    command = [sys.executable, "-m", "energy_patch", "demo", "--out", str(tmp_path)]
    run = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (run.returncode, run.stdout, run.stderr.count("\n")) == (1, "", 1)
    assert "holds something else" in run.stderr


def test_refuses_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(Refusal, match="is a file"):
        runner.run_demo(tmp_path / "file", io.StringIO())


def test_says_how_to_get_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(Refusal, match=r"torch and matplotlib.*\.\[demo\]"):
        runner.run_demo(tmp_path / "out", io.StringIO())
    assert not (tmp_path / "out").exists()


def test_a_failed_training_shows_the_end_of_its_log(tmp_path: Path) -> None:
    runner._make_room(tmp_path)
    runner._copy_sample(tmp_path / runner.CODEBASE)
    (tmp_path / runner.CODEBASE / "data.py").write_text("raise RuntimeError('no camera')\n")
    with pytest.raises(Refusal, match=r"training failed(?s:.*)no camera"):
        training.train(runs.ONE_RANK, tmp_path / runner.CODEBASE, tmp_path, 2, io.StringIO())


def test_imports_neither_torch_nor_matplotlib_before_it_runs() -> None:
    code = "import sys, energy_patch.demo.runner; print({'torch', 'matplotlib'} & set(sys.modules))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "set()"


@pytest.mark.parametrize(
    ("heights", "expected"),
    [
        ([0.0, 1.0], [0.0, 1.0]),
        ([0.5, 0.5], [0.45, 0.55]),
        ([0.52, 0.5], [0.56, 0.46]),
        ([0.5, 0.5, 0.5], [0.4, 0.5, 0.6]),
    ],
)
def test_labels_keep_apart(heights: list[float], expected: list[float]) -> None:
    assert spread(heights, 0.1) == pytest.approx(expected)


def processes_of(out: Path) -> list[int]:
    """Processes that name the folder on their command line: the launcher and, forked from it, its ranks."""
    found = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdecimal() and f"{out}/{training.RUNS_FOLDER}".encode() in (entry / "cmdline").read_bytes():
                found.append(int(entry.name))
    return found


def wait_for(condition: object, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL], ids=lambda s: s.name)
def test_leaves_no_process_behind(tmp_path: Path, ending: signal.Signals) -> None:
    out = tmp_path / "out"
    code = (
        "import signal, sys; from pathlib import Path; from energy_patch.demo.runner import run_demo; "
        "signal.signal(signal.SIGINT, signal.default_int_handler); "  # a background job inherits it ignored
        "run_demo(Path(sys.argv[1]), sys.stdout)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(out)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    ) as demo:
        try:
            assert wait_for(lambda: len(processes_of(out)) == 1 + runs.BEFORE.ranks, START_LIMIT)
            demo.send_signal(ending)
            assert demo.wait(END_LIMIT) == -ending
            assert wait_for(lambda: not processes_of(out), END_LIMIT)
        finally:
            demo.kill()

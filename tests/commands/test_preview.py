"""The preview is the truth: what `git apply` makes of it is what `apply` writes, and asking for it writes nothing."""

from __future__ import annotations

import itertools
import os
import shlex
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.commands.test_cases import CASES, RULE
from tests.conftest import Command, run_command, snapshot, working_directory
from tests.syntax.test_fidelity import ENCODINGS, PLAIN, TEXTS


@dataclass(frozen=True)
class Input:
    """One script with its options, under a folder name of its own."""

    folder: str
    raw: bytes
    options: tuple[str, ...] = ()


def inputs() -> Iterator[Input]:
    for case in sorted(CASES.glob("*.py")):
        first, _, rest = case.read_text("utf-8").partition("\n")
        options = shlex.split(first.removeprefix("# energy-patch apply"))
        yield Input(f"case {case.stem}", rest.partition(RULE)[0].encode(), tuple(options))
    for name, rewrite in TEXTS.items():
        yield Input(f"text {name}", rewrite(PLAIN).encode())
    for name, (rewrite, encoding, mark) in ENCODINGS.items():
        yield Input(f"encoding {name} 文", mark + rewrite(PLAIN).encode(encoding))


INPUTS = [*inputs()]


def git(folder: Path, *arguments: str, stdin: bytes = b"") -> None:
    environment = {**os.environ, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
    done = subprocess.run(
        ["git", *arguments], cwd=folder, input=stdin, env=environment, capture_output=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr.decode()


def write_inputs(root: Path) -> Path:
    for item in INPUTS:
        (root / item.folder).mkdir(parents=True)
        (root / item.folder / "train.py").write_bytes(item.raw)
    git(root, "init", "--quiet")
    return root


def previewed(root: Path, *arguments: object) -> bytes:
    """What a dry run prints, after showing that it wrote nothing."""
    before = snapshot(root)
    ran = run_command(*arguments)
    assert ran.exit_code == 0, ran.stderr
    assert snapshot(root) == before
    return ran.stdout


def compare(root: Path, other: Path) -> None:
    for item in INPUTS:
        assert snapshot(root / item.folder) == snapshot(other / item.folder), item.folder


def test_every_preview_is_what_apply_writes(tmp_path: Path) -> None:
    """A fresh apply, a switch to other options, and a revert, of every case and every kind of bytes."""
    real, by_git = write_inputs(tmp_path / "real"), write_inputs(tmp_path / "by git")
    with working_directory(by_git):
        diffs = [
            previewed(by_git / item.folder, "apply", *item.options, "--dry-run", "--full", f"{item.folder}/train.py")
            for item in INPUTS
        ]
        git(by_git, "apply", stdin=b"".join(diffs))
    for item in INPUTS:
        assert run_command("apply", *item.options, real / item.folder / "train.py").exit_code == 0
    compare(real, by_git)

    switched = [item for item in INPUTS[::3] if "local-batch" not in item.options]
    options = [(*item.options, "--min-distance", "0.125") for item in switched]
    with working_directory(by_git):
        diffs = [
            previewed(by_git / item.folder, "apply", *given, "--dry-run", "--full", f"{item.folder}/train.py")
            for item, given in zip(switched, options, strict=True)
        ]
        assert all(diffs)
        git(by_git, "apply", stdin=b"".join(diffs))
    for item, given in zip(switched, options, strict=True):
        assert run_command("apply", *given, real / item.folder / "train.py").exit_code == 0
    compare(real, by_git)

    with working_directory(by_git):
        diffs = [previewed(by_git / item.folder, "revert", "--dry-run", f"{item.folder}/train.py") for item in INPUTS]
        git(by_git, "apply", stdin=b"".join(diffs))
    for item in INPUTS:
        assert (by_git / item.folder / "train.py").read_bytes() == item.raw, item.folder


def test_several_scripts_in_one_preview(tmp_path: Path, energy_patch: Command) -> None:
    """Scripts that share a folder share its modules and its record."""
    for root in ("real", "by git"):
        for name in ("one.py", "two.py", "sub/three.py"):
            (tmp_path / root / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / root / name).write_text(PLAIN)
    names = ["one.py", "sub/three.py", "two.py"]
    with working_directory(tmp_path / "by git") as root:
        git(root, "init", "--quiet")
        git(root, "apply", stdin=previewed(root, "apply", "--dry-run", "--full", *names))
    with working_directory(tmp_path / "real"):
        assert energy_patch("apply", *names).exit_code == 0
    for name in ("one.py", "two.py", "energy_losses", "sub"):
        ours, theirs = tmp_path / "real" / name, tmp_path / "by git" / name
        assert ours.read_bytes() == theirs.read_bytes() if ours.is_file() else snapshot(ours) == snapshot(theirs)


def test_a_preview_from_a_folder_below_the_repository(tmp_path: Path) -> None:
    for root in ("real", "by git"):
        (tmp_path / root / "vla-scripts").mkdir(parents=True)
        (tmp_path / root / "vla-scripts" / "train.py").write_text(PLAIN)
    git(tmp_path / "by git", "init", "--quiet")
    with working_directory(tmp_path / "by git" / "vla-scripts") as folder:
        git(folder, "apply", stdin=previewed(folder, "apply", "--dry-run", "--full", "train.py"))
    assert run_command("apply", tmp_path / "real" / "vla-scripts" / "train.py").exit_code == 0
    assert snapshot(tmp_path / "by git" / "vla-scripts") == snapshot(tmp_path / "real" / "vla-scripts")


FLAGS = ("--full", "--json", "--check", "--no-sync", "--tau 0.7", "--strategy local-batch", "--min-distance 0.1")


@pytest.mark.parametrize(("state", "expected"), [("fresh", {0, 2, 3}), ("patched", {0, 2, 3}), ("edited", {1})])
def test_a_dry_run_never_writes(state: str, expected: set[int], tmp_path: Path, energy_patch: Command) -> None:
    """Whatever the other options, and whatever it answers."""
    script = tmp_path / "train.py"
    script.write_text(PLAIN.replace("batch_size: int = 8 ", "batch_size: int = 8; grad_accumulation_steps: int = 1 "))
    if state != "fresh":
        assert energy_patch("apply", script).exit_code == 0
    if state == "edited":
        script.write_text(script.read_text().replace("replicate(", "replicate_mine("))
    before = {path: (path.stat().st_mtime_ns, path.stat().st_ino) for path in [tmp_path, *tmp_path.rglob("*")]}
    seen = snapshot(tmp_path)
    codes = set()
    for count in (0, 1, 2, len(FLAGS)):
        for flags in itertools.combinations(FLAGS, count):
            given = [word for flag in flags for word in flag.split()]
            codes.add(energy_patch("apply", "--dry-run", *given, script).exit_code)
    for command in ("revert --dry-run", "revert --dry-run --json", "status", "apply --check", "apply --check --json"):
        codes.add(energy_patch(*command.split(), script).exit_code)
    assert codes == expected
    assert snapshot(tmp_path) == seen
    assert {path: (path.stat().st_mtime_ns, path.stat().st_ino) for path in before} == before

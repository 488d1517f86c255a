"""Training scripts as other labs write them, run on two ranks: as they are, their ranks drift apart; patched, never.

The scripts are `tests/cases/labs_*.py`, and with modules of their own `tests/folders/labs_*.py`, which also say what
their patch looks like; what else they import stands in `tests/scripts/labs`. Each script runs whole, in both
ranks of one pair of worker processes.
"""

from __future__ import annotations

import contextlib
import io
import os
import runpy
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from tests.scripts.folder_cases import SCRIPT, folder_cases, read_case, write_files

torch = pytest.importorskip("torch")

ROOT = Path(__file__).parents[1]
LABS = ROOT / "scripts" / "labs"
CASES = sorted((ROOT / "cases").glob("labs_*.py"))
RULE = "# ==== after ====\n"
# By a DDP of their own, before any patch.
SYNCHRONIZED = {"labs_accelerate_prepared", "labs_ddp_energy_model", "labs_lightning_automatic"}


@pytest.mark.parametrize("case", CASES, ids=lambda path: path.stem)
def test_ranks_stay_one_model(case: Path, tmp_path: Path, pool: Any) -> None:
    before, _, after = case.read_text("utf-8").partition("\n")[2].partition(RULE)
    as_it_is = trained(pool, tmp_path / "before", {SCRIPT: before})
    assert (as_it_is[0] == as_it_is[1]) == (case.stem in SYNCHRONIZED)
    patched = trained(pool, tmp_path / "after", {SCRIPT: after})
    assert patched[0] == patched[1]


@pytest.mark.parametrize("case", folder_cases("labs_*.py"), ids=lambda path: path.stem)
def test_ranks_stay_one_model_where_a_module_calls_the_loss(case: Path, tmp_path: Path, pool: Any) -> None:
    files = read_case(case)
    as_it_is = trained(pool, tmp_path / "before", files.before)
    assert as_it_is[0] != as_it_is[1]
    patched = trained(pool, tmp_path / "after", files.all_after)
    assert patched[0] == patched[1]


def trained(pool: Any, folder: Path, files: dict[str, str]) -> list[list[float]]:
    """For each rank the weights of all its energy models; training must have changed them."""
    shutil.copytree(LABS / "repository", folder)
    write_files(folder, files)
    if any("energy_losses" in text for text in files.values()):
        shutil.copytree(ROOT.parent / "templates" / "energy_losses", folder / "energy_losses")
    found = pool.run(2, run_script, str(folder), str(LABS / "site"))
    assert all(now != start for now, start in found)
    return [now for now, _ in found]


def run_script(rank: int, world: int, folder: str, site: str) -> tuple[list[float], list[float]]:
    torch.manual_seed(rank)
    with in_repository(Path(folder), site, rank, world), no_group_yet(), on_this_machine():
        runpy.run_path(str(Path(folder) / SCRIPT), run_name="__main__")
        built = sys.modules["built"]
        now = torch.cat([built.flat(model) for model, _ in built.MODELS])
        return now.tolist(), torch.cat([start for _, start in built.MODELS]).tolist()


@contextlib.contextmanager
def in_repository(folder: Path, site: str, rank: int, world: int) -> Iterator[None]:
    """A process as torchrun starts it: its variables, the script's folder first on the path, nothing imported yet."""
    ours = {path.stem for place in (folder, Path(site)) for path in place.iterdir()}
    variables = {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(world)}
    others = take_modules(ours)
    try:
        with (
            mock.patch.dict(os.environ, variables),
            mock.patch.multiple(sys, path=[str(folder), site, *sys.path], argv=[SCRIPT]),
            contextlib.redirect_stdout(io.StringIO()),
            working_directory(folder),
        ):
            yield
    finally:
        take_modules(ours)
        sys.modules.update(others)


def take_modules(packages: set[str]) -> dict[str, Any]:
    """Forget these packages; what was imported of them."""
    return {name: sys.modules.pop(name) for name in list(sys.modules) if name.partition(".")[0] in packages}


@contextlib.contextmanager
def no_group_yet() -> Iterator[None]:
    """The script sets up the process group of the pool, and until then has none."""
    import torch.distributed as dist

    state = {"initialized": False}

    def init_process_group(*_: Any, **__: Any) -> None:
        assert not state["initialized"], "the process group is set up twice"
        state["initialized"] = True

    def destroy_process_group(*_: Any) -> None:
        state["initialized"] = False

    with mock.patch.multiple(
        dist,
        init_process_group=init_process_group,
        destroy_process_group=destroy_process_group,
        is_initialized=lambda: state["initialized"],
    ):
        yield


@contextlib.contextmanager
def on_this_machine() -> Iterator[None]:
    """No compiler, no processes of the script's own, and no accelerator, which FSDP asks for."""
    import torch.distributed.fsdp

    compile_ = torch.compile

    def spawn(worker: Any, args: tuple[Any, ...], **_: Any) -> None:
        worker(int(os.environ["RANK"]), *args)

    with (
        mock.patch.object(torch, "compile", lambda module: compile_(module, backend="eager")),
        mock.patch.object(torch.multiprocessing, "spawn", spawn),
        mock.patch.object(torch.distributed.fsdp, "FullyShardedDataParallel", lambda module, **_: Sharded(module)),
    ):
        yield


class Sharded(torch.nn.Module):  # type: ignore[misc]
    """A policy in FSDP, as far as a script can see."""

    def __init__(self, module: Any) -> None:
        super().__init__()
        self.module = torch.nn.parallel.DistributedDataParallel(module)

    def forward(self, *args: Any) -> Any:
        return self.module(*args)


@contextlib.contextmanager
def working_directory(folder: Path) -> Iterator[None]:
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)

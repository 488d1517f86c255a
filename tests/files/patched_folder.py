"""A folder with two scripts, patched by hand, and what the tests of this folder do to it."""

from __future__ import annotations

import dataclasses
import stat
from collections.abc import Callable
from pathlib import Path

from energy_patch.files.changes import FilePatch, Original, apply_changes, revert_changes
from energy_patch.files.folder import inspect_folder
from energy_patch.files.lock import exclusive
from energy_patch.files.transaction import ChangeSet, sweep, write_changes
from energy_patch.syntax.source import read_source
from energy_patch.unpatch.current import current_entry
from energy_patch.unpatch.undo import undo
from tests.scripts.marked import TRAINING, Marked, read_marked


def with_modules(patch: Marked, *modules: str) -> Marked:
    return dataclasses.replace(patch, entry=dataclasses.replace(patch.entry, modules=("__init__.py", *modules)))


GLOBAL = with_modules(read_marked(TRAINING, modules=()), "global_infonce.py", "ranks.py")
QUEUE = with_modules(
    read_marked(
        TRAINING.replace("new_infonce", "queued_infonce").replace("global_infonce", "queue_infonce"),
        strategy="queue",
        modules=(),
        names=("dist", "energy_tau", "queued_infonce", "replicate", "world_size"),
    ),
    "queue_infonce.py",
    "ranks.py",
)
ORIGINAL = GLOBAL.before.encode()
MODULES = {
    "__init__.py": b"",
    "ranks.py": b"import torch\n",
    "global_infonce.py": b"from .ranks import gather\n",
    "queue_infonce.py": b"from .ranks import gather\n# queue\n",
}
Tree = dict[str, bytes]
Operation = Callable[[Path], None]


def planned(folder: Path, patch: Marked | None, names: tuple[str, ...] = ("one.py", "two.py")) -> ChangeSet:
    """What the commands do: read, tell the state, plan from the original; None takes the patch back."""
    record = inspect_folder(folder).record
    patches, back = [], {}
    for name in names:
        source = read_source(folder / name)
        entry = current_entry(record, name, source.raw)
        original = source.encode(undo(source, entry).text) if entry else source.raw
        back[name] = Original(source, original)
        if patch is not None:
            assert original == ORIGINAL
            patches.append(FilePatch(name, source, patch.patched, patch.entry))
    return revert_changes(folder, names, back) if patch is None else apply_changes(folder, patches)


def run(folder: Path, patch: Marked | None, names: tuple[str, ...] = ("one.py", "two.py")) -> ChangeSet:
    with exclusive(folder / name for name in names):
        sweep(folder)
        found = planned(folder, patch, names)
        write_changes(found.changes)
        return found


def tree(folder: Path) -> Tree:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def everything(folder: Path) -> Tree:
    """Files, folders and half-written temporary files alike."""
    return {**tree(folder), **{f"{path.relative_to(folder)}/": b"" for path in folder.rglob("*") if path.is_dir()}}


def modes(folder: Path) -> dict[str, int]:
    return {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.glob("*.py")}


def names(found: ChangeSet) -> list[str]:
    return [("-" if change.after is None else "") + change.path.name for change in found.changes]

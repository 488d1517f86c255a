"""All or none, whatever fails: an error, an interrupt or a kill at every single file operation."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import fcntl
import itertools
import os
import random
import signal
import stat
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from energy_patch.files import lock, templates, transaction
from energy_patch.files.changes import FilePatch, Original, apply_changes, revert_changes
from energy_patch.files.folder import inspect_folder
from energy_patch.files.lock import exclusive
from energy_patch.files.transaction import ChangeSet, FileChange, sweep, write_changes
from energy_patch.record.schema import sha256
from energy_patch.refusal import Refusal
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


@pytest.fixture(autouse=True)
def small_templates(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path_factory.mktemp("templates")
    for name, content in MODULES.items():
        (folder / name).write_bytes(content)
    monkeypatch.setattr(templates, "templates_folder", lambda: folder)
    return folder


@pytest.fixture(autouse=True)
def quick_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing here looks at what a power cut leaves."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A folder with two scripts, one of which is executable."""
    folder = tmp_path / "vla-scripts"
    folder.mkdir()
    for name in ("one.py", "two.py"):
        (folder / name).write_bytes(ORIGINAL)
    (folder / "two.py").chmod(0o755)
    (folder / "mine.txt").write_bytes(b"mine")
    return folder


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


# Scenarios: how the folder comes to be, and what is then done to it

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


def reset(folder: Path, to: Mapping[str, bytes]) -> None:
    """Put a folder back to a snapshot, with the modes of the fixture."""
    for path in sorted(folder.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    for name, content in sorted(to.items()):
        if name.endswith("/"):
            (folder / name).mkdir()
        else:
            (folder / name).write_bytes(content)
    (folder / "two.py").chmod(0o755)


# Faults

OPERATIONS: tuple[tuple[Any, str], ...] = (
    (os, "open"), (os, "write"), (os, "fsync"), (os, "close"), (os, "access"), (os, "chown"), (fcntl, "flock"),
    (Path, "replace"), (Path, "unlink"), (Path, "mkdir"), (Path, "rmdir"), (Path, "chmod"), (Path, "read_bytes"),
    (Path, "stat"), (Path, "iterdir"), (Path, "glob"),
)  # fmt: skip
Fault = Callable[[str, Callable[[], Any]], Any]


@contextlib.contextmanager
def faults(at: int, fault: Fault, *, sticky: bool = False) -> Iterator[Callable[[], int]]:
    """Call `fault` in the place of the `at`-th file operation, or of all from there on."""
    count = 0

    def wrap(name: str, original: Callable[..., Any]) -> Callable[..., Any]:
        def operation(*arguments: Any, **keywords: Any) -> Any:
            nonlocal count
            count += 1
            if count == at or (sticky and count > at):
                if name == "close":  # even where it fails, the file is closed
                    original(*arguments, **keywords)
                    return fault(name, lambda: None)
                return fault(name, lambda: original(*arguments, **keywords))
            return original(*arguments, **keywords)

        return operation

    with pytest.MonkeyPatch.context() as patch:
        for owner, name in OPERATIONS:
            patch.setattr(owner, name, wrap(name, getattr(owner, name)))
        yield lambda: count


def full_disk(name: str, go_on: Callable[[], Any]) -> Any:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def full_for_writes(name: str, go_on: Callable[[], Any]) -> Any:
    """Nothing new fits any more; what only moves or removes still works."""
    if name in ("write", "mkdir"):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    return go_on()


def interrupt(name: str, go_on: Callable[[], Any]) -> Any:
    raise KeyboardInterrupt


def interrupt_behind(name: str, go_on: Callable[[], Any]) -> Any:
    go_on()
    raise KeyboardInterrupt


def kill(name: str, go_on: Callable[[], Any]) -> Any:
    os.kill(os.getpid(), signal.SIGKILL)


def points() -> Iterator[int]:
    return itertools.count(1)


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


# The order, and what stays


def names(found: ChangeSet) -> list[str]:
    return [("-" if change.after is None else "") + change.path.name for change in found.changes]


def test_the_order_of_writing(home: Path) -> None:
    assert names(run(home, GLOBAL)) == [
        "__init__.py",
        "global_infonce.py",
        "ranks.py",
        "patch.json",
        "one.py",
        "two.py",
    ]
    assert names(run(home, GLOBAL)) == []
    assert names(run(home, QUEUE, ("one.py",))) == ["queue_infonce.py", "patch.json", "one.py", "patch.json"]
    switched = ["patch.json", "two.py", "patch.json", "-global_infonce.py"]
    assert names(run(home, QUEUE, ("two.py",))) == switched
    assert names(run(home, None, ("two.py",))) == ["two.py", "patch.json"]
    assert names(run(home, None)) == [
        "one.py", "patch.json", "-__init__.py", "-queue_infonce.py", "-ranks.py", "-patch.json",
    ]  # fmt: skip
    assert not (home / "energy_losses").exists()


def test_a_switch_is_equal_to_a_fresh_apply(home: Path, tmp_path: Path) -> None:
    fresh = tmp_path / "fresh"
    fresh.mkdir()
    for path in home.iterdir():
        (fresh / path.name).write_bytes(path.read_bytes())
    run(home, GLOBAL)
    run(home, QUEUE)
    run(fresh, QUEUE)
    assert tree(home) == tree(fresh)


def test_the_record_knows_a_script_old_and_new_while_it_is_switched(home: Path) -> None:
    run(home, GLOBAL)
    first = next(change for change in planned(home, QUEUE).changes if change.path.name == "patch.json")
    (home / "energy_losses" / "patch.json").write_bytes(first.after or b"")
    record = inspect_folder(home).record
    assert current_entry(record, "one.py", GLOBAL.patched) == GLOBAL.entry
    assert current_entry(record, "one.py", QUEUE.patched) == QUEUE.entry


def test_compiled_modules_do_not_keep_the_folder(home: Path) -> None:
    run(home, GLOBAL)
    cache = home / "energy_losses" / "__pycache__"
    cache.mkdir()
    (cache / "ranks.cpython-311.pyc").write_bytes(b"")
    (cache / "queue_infonce.cpython-311.opt-1.pyc").write_bytes(b"")
    run(home, None)
    assert not (home / "energy_losses").exists()


def test_files_of_the_user_in_the_folder_stay(home: Path) -> None:
    run(home, GLOBAL)
    (home / "energy_losses" / "notes.md").write_bytes(b"mine")
    run(home, None)
    assert set(tree(home)) == {"mine.txt", "one.py", "two.py", "energy_losses/notes.md"}


def test_an_edited_module_stays_with_the_record(home: Path) -> None:
    run(home, GLOBAL)
    ranks = home / "energy_losses" / "ranks.py"
    ranks.write_bytes(b"# mine\n")
    found = run(home, None)
    assert any("energy_losses/ranks.py" in note for note in found.notes)
    assert set(tree(home)) == {"mine.txt", "one.py", "two.py", "energy_losses/ranks.py", "energy_losses/patch.json"}
    with pytest.raises(Refusal) as caught:
        run(home, GLOBAL)
    assert caught.value.reason == "conflict"
    assert "energy_losses/ranks.py" in caught.value.message
    ranks.write_bytes(MODULES["ranks.py"])
    run(home, GLOBAL)
    run(home, None)
    assert set(tree(home)) == {"mine.txt", "one.py", "two.py"}


def test_an_edited_module_that_is_needed_no_more_does_not_stop_a_switch(home: Path) -> None:
    run(home, GLOBAL)
    (home / "energy_losses" / "global_infonce.py").write_bytes(b"# mine\n")
    found = run(home, QUEUE)
    assert any("global_infonce.py" in note for note in found.notes)
    assert (home / "energy_losses" / "global_infonce.py").read_bytes() == b"# mine\n"


def test_a_file_of_the_user_where_a_module_would_go(home: Path) -> None:
    run(home, GLOBAL)
    (home / "energy_losses" / "queue_infonce.py").write_bytes(b"# mine\n")
    before = tree(home)
    with pytest.raises(Refusal) as caught:
        run(home, QUEUE)
    assert caught.value.reason == "conflict"
    assert tree(home) == before


def test_a_newer_tool_replaces_its_own_modules(home: Path, small_templates: Path) -> None:
    run(home, GLOBAL)
    (small_templates / "ranks.py").write_bytes(b"from . import header\n")
    (small_templates / "header.py").write_bytes(b"# new\n")
    found = run(home, QUEUE, ("one.py",))
    assert names(found)[:3] == ["header.py", "queue_infonce.py", "ranks.py"]
    assert tree(home)["energy_losses/ranks.py"] == b"from . import header\n"
    assert "energy_losses/global_infonce.py" in tree(home)
    run(home, None)
    assert set(tree(home)) == {"mine.txt", "one.py", "two.py"}


def test_modules_with_converted_line_ends_are_left_alone(home: Path) -> None:
    run(home, GLOBAL)
    for name in ("ranks.py", "global_infonce.py"):
        path = home / "energy_losses" / name
        path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    assert names(run(home, GLOBAL)) == []
    run(home, None)
    assert set(tree(home)) == {"mine.txt", "one.py", "two.py"}


def test_an_edited_module_is_no_reason_to_refuse_where_nothing_changes(home: Path) -> None:
    run(home, GLOBAL)
    (home / "energy_losses" / "ranks.py").write_bytes(b"# mine\n")
    assert names(run(home, GLOBAL)) == []
    with pytest.raises(Refusal) as caught:
        run(home, QUEUE)
    assert caught.value.reason == "conflict"


def test_a_module_that_this_version_does_not_know(home: Path, small_templates: Path) -> None:
    run(home, QUEUE, ("one.py",))
    (small_templates / "queue_infonce.py").unlink()
    run(home, GLOBAL, ("two.py",))
    assert names(run(home, QUEUE, ("one.py",))) == []
    assert "energy_losses/queue_infonce.py" in tree(home)
    run(home, None)
    assert set(tree(home)) == {"mine.txt", "one.py", "two.py"}


def test_a_lost_module_is_copied_again(home: Path) -> None:
    run(home, GLOBAL)
    after = tree(home)
    (home / "energy_losses" / "ranks.py").unlink()
    run(home, GLOBAL)
    assert tree(home) == after


def test_a_script_that_was_put_back_does_not_hold_the_modules(home: Path) -> None:
    run(home, GLOBAL)
    (home / "one.py").write_bytes(ORIGINAL)
    run(home, None, ("two.py",))
    assert set(tree(home)) == {"mine.txt", "one.py", "two.py"}


def test_a_script_that_is_not_there_does(home: Path) -> None:
    run(home, GLOBAL)
    raw = (home / "one.py").read_bytes()
    (home / "one.py").unlink()
    found = run(home, None, ("two.py",))
    assert any("one.py" in note for note in found.notes)
    (home / "one.py").write_bytes(raw)
    run(home, None, ("one.py",))
    assert set(tree(home)) == {"mine.txt", "one.py", "two.py"}


# Links, modes, owners, and other people


def test_a_link_stays_and_its_target_changes(home: Path, tmp_path: Path) -> None:
    link = tmp_path / "link.py"
    link.symlink_to(home / "one.py")
    source = read_source(link)
    write_changes(apply_changes(home, [FilePatch("one.py", source, GLOBAL.patched, GLOBAL.entry)]).changes)
    assert link.is_symlink()
    assert (home / "one.py").read_bytes() == GLOBAL.patched
    assert set(inspect_folder(home).record.scripts) == {"one.py"}  # type: ignore[union-attr]


def test_the_mode_of_new_files_is_the_usual_one(home: Path) -> None:
    run(home, GLOBAL)
    usual = home / "usual"
    usual.touch()
    ranks = home / "energy_losses" / "ranks.py"
    assert stat.S_IMODE(ranks.stat().st_mode) == stat.S_IMODE(usual.stat().st_mode)
    assert modes(home) == {"one.py": 0o644, "two.py": 0o755}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_the_owner_is_kept(home: Path) -> None:
    os.chown(home / "one.py", 12345, 23456)
    run(home, GLOBAL)
    status = (home / "one.py").stat()
    assert (status.st_uid, status.st_gid) == (12345, 23456)


def test_an_owner_that_cannot_be_kept_is_no_failure(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object) -> None:
        raise PermissionError(errno.EPERM, "not yours")

    kept = (home / "one.py").stat()
    monkeypatch.setattr(os, "chown", refuse)
    transaction._keep_owner(home / "one.py", os.stat_result([*kept[:4], kept.st_uid + 1, *kept[5:]]))
    run(home, GLOBAL)
    assert (home / "one.py").read_bytes() == GLOBAL.patched


def unwritable(found: ChangeSet) -> Refusal:
    with pytest.raises(Refusal) as caught:
        write_changes(found.changes)
    assert caught.value.reason == "unwritable"
    return caught.value


def test_a_script_that_may_not_be_written(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found, before = planned(home, GLOBAL), tree(home)
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path).name != "two.py")
    assert "two.py is read-only" in unwritable(found).message
    assert tree(home) == before
    assert not (home / "energy_losses").exists()


def test_a_folder_that_may_not_be_written(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found, before = planned(home, GLOBAL), tree(home)

    def refuse(path: Path, *arguments: object, **keywords: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    monkeypatch.setattr(Path, "mkdir", refuse)
    message = unwritable(found).message
    assert os.strerror(errno.EACCES) in message
    assert str(home / "energy_losses") in message
    assert tree(home) == before


def test_a_pipe_is_no_script(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.py")
    with pytest.raises(Refusal, match="not a regular file"):
        transaction._kept_status(tmp_path / "pipe.py")


def test_a_script_that_changed_since_it_was_read(home: Path) -> None:
    found = planned(home, GLOBAL)
    (home / "two.py").write_bytes(b"somebody else\n")
    before = tree(home)
    assert "two.py changed while energy-patch was running" in unwritable(found).message
    assert tree(home) == before
    assert not (home / "energy_losses").exists()


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


def test_a_second_run_waits_but_not_for_ever(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = planned(home, GLOBAL)
    monkeypatch.setattr(lock, "PATIENCE", 0.1)
    with locked_elsewhere(home):
        assert "another energy-patch is at work" in unwritable(found).message
        sweep(home)
    assert not (home / "energy_losses").exists()
    write_changes(found.changes)


@contextlib.contextmanager
def locked_elsewhere(folder: Path) -> Iterator[None]:
    descriptor = os.open(folder, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    yield
    os.close(descriptor)


def test_a_plan_made_from_a_patched_script_is_never_recorded(home: Path) -> None:
    """The record was read before another run patched the script, the script after it."""
    run(home, GLOBAL)
    before = tree(home)
    source = read_source(home / "one.py")
    again = dataclasses.replace(QUEUE.entry, original=sha256(source.raw))
    with pytest.raises(Refusal) as caught:
        apply_changes(home, [FilePatch("one.py", source, QUEUE.patched, again)])
    assert caught.value.reason == "unwritable"
    assert tree(home) == before


def test_without_locks_a_second_run_is_noticed_all_the_same(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", refuse)
    one, two = planned(home, GLOBAL), planned(home, QUEUE)
    write_changes(one.changes)
    after = tree(home)
    assert "changed while" in unwritable(two).message
    assert tree(home) == after


def test_modules_without_a_record_go_if_no_script_needs_them(home: Path) -> None:
    run(home, GLOBAL)
    (home / "energy_losses" / "patch.json").unlink()
    after = tree(home)
    assert names(run(home, None)) == []
    assert tree(home) == after
    for name in ("one.py", "two.py"):
        (home / name).write_bytes(ORIGINAL)
    run(home, None)
    assert set(tree(home)) == {"mine.txt", "one.py", "two.py"}


def test_what_a_killed_run_left_is_swept(home: Path) -> None:
    (home / "energy_losses").mkdir()
    for folder in (home, home / "energy_losses"):
        (folder / ".energy-patch-77-0.tmp").write_bytes(b"half")
    sweep(home)
    assert set(tree(home)) == {"mine.txt", "one.py", "two.py"}
    assert not (home / "energy_losses").exists()


def test_several_changes_of_one_file(tmp_path: Path) -> None:
    path = tmp_path / "a"
    write_changes([FileChange(path, None, b"1"), FileChange(path, b"1", b"2"), FileChange(path, b"2", b"2")])
    assert path.read_bytes() == b"2"
    with pytest.raises(Refusal):
        write_changes([FileChange(path, b"2", b"3"), FileChange(path, b"x", b"4")])
    assert path.read_bytes() == b"2"
    write_changes([])

"""What a run does to the files: in which order, what it takes along and what it leaves."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from energy_patch.files.changes import FilePatch, apply_changes
from energy_patch.files.folder import inspect_folder
from energy_patch.record.schema import sha256
from energy_patch.refusal import Refusal
from energy_patch.syntax.source import read_source
from energy_patch.unpatch.current import current_entry
from tests.files.patched_folder import GLOBAL, MODULES, ORIGINAL, QUEUE, names, planned, run, tree

pytestmark = pytest.mark.usefixtures("small_templates", "quick_disk")


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
    assert "energy_losses/ranks.py was edited since apply" in caught.value.message
    (home / "energy_losses" / "global_infonce.py").write_bytes(b"# mine\n")
    with pytest.raises(Refusal) as caught:
        run(home, GLOBAL)
    assert "energy_losses/global_infonce.py, energy_losses/ranks.py were edited" in caught.value.message
    (home / "energy_losses" / "global_infonce.py").unlink()
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


RANKS = b'def gather(x, y):\n    """One.\n\n    Two.\n    """  # why\n    return x\n'


def test_formatted_modules_are_left_alone_and_go(home: Path, small_templates: Path) -> None:
    (small_templates / "ranks.py").write_bytes(RANKS)
    run(home, GLOBAL)
    path = home / "energy_losses" / "ranks.py"
    formatted = b"def gather(\n  x, y,\n):\n  '''One.\n\n  Two.\n  '''  #  why\n  return (x)\n"
    path.write_bytes(formatted)
    assert names(run(home, GLOBAL)) == ["patch.json"]
    run(home, QUEUE)
    assert path.read_bytes() == formatted
    run(home, None)
    assert set(tree(home)) == {"mine.txt", "one.py", "two.py"}


@pytest.mark.parametrize(
    ("old", "new"), [(b"# why", b"# mine"), (b"x, y", b"x, z"), (b"Two", b"2"), (b"return x", b"return x  # mine")]
)
def test_a_formatted_module_that_was_edited_is_an_edited_one(
    old: bytes, new: bytes, home: Path, small_templates: Path
) -> None:
    (small_templates / "ranks.py").write_bytes(RANKS)
    run(home, GLOBAL)
    path = home / "energy_losses" / "ranks.py"
    path.write_bytes(RANKS.replace(b"(x, y)", b"(\n    x, y\n)").replace(old, new))
    with pytest.raises(Refusal):
        run(home, QUEUE)
    run(home, None)
    assert path.exists()


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

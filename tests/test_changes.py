from pathlib import Path

from energy_patch.changes import apply_changes, revert_changes, write_changes
from energy_patch.edits import Edit
from energy_patch.plan import Plan, PlannedEdit
from energy_patch.record import current_entry, load_record, make_entry
from energy_patch.source import read_source
from energy_patch.undo import undo


def test_there_and_back(tmp_path: Path) -> None:
    script = tmp_path / "train.py"
    script.write_bytes(b"import a\nloss = a.f(1)\n")
    source = read_source(script)
    edits = (PlannedEdit(Edit(9, 9, "import b\n"), "x"), PlannedEdit(Edit(16, 19, "b.g"), "y"))
    plan = Plan(source, "global", {"tau": 0.3}, edits, ("global_infonce.py",), ("b", "g"))
    patched = b"import a\nimport b\nloss = b.g(1)\n"
    entry = make_entry(plan, patched)
    done = apply_changes(tmp_path, [(source, patched, entry)])
    write_changes(done.changes)
    assert script.read_bytes() == patched
    assert (tmp_path / "energy_losses" / "__init__.py").read_bytes() == b""
    record = load_record(tmp_path)
    assert record is not None
    assert record.scripts["train.py"] == entry
    now = read_source(script)
    assert current_entry(record, "train.py", now.raw) == entry
    undone = undo(now, entry)
    write_changes(revert_changes(tmp_path, [(now, now.encode(undone.text))]).changes)
    assert script.read_bytes() == source.raw
    assert not (tmp_path / "energy_losses").exists()

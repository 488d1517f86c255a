"""The preview against real git: what it applies is what a run would write."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from energy_patch.files.diff import color, unified_diff
from energy_patch.files.transaction import FileChange

PIECES = [
    b"a = 1\n", b"b = 2\n", b"\n", b"crlf\r\n", b"cr\r", b"feed\f\n", b"\xe2\x80\xa8\n", b"\x1c\n", b"latin \xe9\n",
    b"\xe8\x83\xbd\xe9\x87\x8f\n", b"  \n", b"\t\n", b"--- a/x\n", b"+++ b/x\n", b"@@ -1 +1 @@\n", b"diff --git a b\n",
    b"\\ No newline at end of file\n", b"trailing  \n", b"x\r\r\n",
]  # fmt: skip
CONTENT = st.builds(
    lambda lines, last: b"".join(lines) + last,
    st.lists(st.sampled_from(PIECES), max_size=25),
    st.sampled_from([b"", b"end"]),
)
NAMES = ["plain.py", "with blank.py", "能量.py", 'quo"te.py', "back\\slash.py", "tab\tname.py", "a b/c d.py", "é.py"]
KINDS = [(None, b"new\n"), (None, b""), (b"old\n", None), (b"", None), (b"a\n", b"b"), (b"", b"x")]


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("repository")
    git(folder, "init", "--quiet")
    return folder


def git(folder: Path, *arguments: str, given: bytes = b"") -> bytes:
    return subprocess.run(["git", *arguments], cwd=folder, input=given, capture_output=True, check=True).stdout


def check(folder: Path, changes: list[FileChange], cwd: Path | None = None) -> None:
    """Lay out what was there, have git apply the diff, and compare every byte."""
    finals: dict[Path, bytes | None] = {}
    for change in changes:
        if change.path not in finals and change.before is not None:
            change.path.parent.mkdir(parents=True, exist_ok=True)
            change.path.write_bytes(change.before)
        finals[change.path] = change.after
    diff = unified_diff(changes, cwd or folder, full=True)
    if diff:
        git(cwd or folder, "apply", "--whitespace=nowarn", given=diff)
    for path, expected in finals.items():
        assert (path.read_bytes() if path.exists() else None) == expected
        path.unlink(missing_ok=True)


@settings(max_examples=120, deadline=None)
@given(before=CONTENT, after=CONTENT)
def test_git_gives_the_same_bytes(repository: Path, before: bytes, after: bytes) -> None:
    check(repository, [FileChange(repository / "train.py", before, after)])


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_git_gives_the_same_bytes_after_small_edits(repository: Path, data: st.DataObject) -> None:
    lines = data.draw(st.lists(st.sampled_from(PIECES), min_size=5, max_size=60))
    place = data.draw(st.integers(0, len(lines)))
    new = data.draw(st.lists(st.sampled_from(PIECES), max_size=3))
    dropped = data.draw(st.integers(0, 3))
    after = lines[:place] + new + lines[place + dropped :]
    check(repository, [FileChange(repository / "train.py", b"".join(lines), b"".join(after))])


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("contents", KINDS)
def test_names_and_kinds(repository: Path, name: str, contents: tuple[bytes | None, bytes | None]) -> None:
    path = repository / name
    path.parent.mkdir(exist_ok=True)
    check(repository, [FileChange(path, *contents)])


def test_a_whole_patch_from_a_folder_below(repository: Path) -> None:
    folder = repository / "vla-scripts"
    ours = folder / "energy_losses"
    changes = [
        FileChange(ours / "__init__.py", None, b""),
        FileChange(ours / "ranks.py", None, b"import torch\r\n"),
        FileChange(ours / "patch.json", None, b"{1}\n"),
        FileChange(folder / "train.py", b"a\nb\nc", b"a\nB\nc"),
        FileChange(ours / "patch.json", b"{1}\n", b"{2}\n"),
    ]
    diff = unified_diff(changes, folder, full=True)
    assert diff.count(b"diff --git") == 4
    assert b"{1}" not in diff
    check(repository, changes, cwd=folder)
    assert unified_diff(changes, folder, full=False) == unified_diff(changes[3:4], folder, full=True)


def test_outside_a_working_tree_paths_begin_where_the_command_runs(tmp_path: Path) -> None:
    path = tmp_path / "below" / "train.py"
    assert b"--- a/below/train.py\n" in unified_diff([FileChange(path, b"a\n", b"b\n")], tmp_path, full=True)
    (tmp_path / "below").mkdir()
    check(tmp_path, [FileChange(path, b"a\n", b"b\n"), FileChange(tmp_path / "below" / "new.py", None, b"")])


def test_what_is_put_back_is_no_change(tmp_path: Path) -> None:
    path = tmp_path / "x"
    assert unified_diff([FileChange(path, None, b"a"), FileChange(path, b"a", None)], tmp_path, full=True) == b""


def test_it_reads_like_a_diff_of_git(repository: Path) -> None:
    path = repository / "same.py"
    before = b"".join(b"line %d\n" % number for number in range(40))
    after = before.replace(b"line 5\n", b"line five\n").replace(b"line 30\n", b"")
    path.write_bytes(before)
    git(repository, "add", "same.py")
    path.write_bytes(after)
    expected = [line for line in git(repository, "diff", "same.py").splitlines() if not line.startswith(b"index ")]
    ours = unified_diff([FileChange(path, before, after)], repository, full=True).splitlines()
    assert [re.sub(b"@@ line.*", b"@@", line) for line in expected] == ours


def test_the_mode_of_a_removed_file_is_its_own(tmp_path: Path) -> None:
    path = tmp_path / "run.py"
    path.write_bytes(b"x\n")
    path.chmod(0o755)
    assert b"deleted file mode 100755\n" in unified_diff([FileChange(path, b"x\n", None)], tmp_path, full=True)


def test_colors_add_nothing_else() -> None:
    diff = (
        b"diff --git a/x b/x\n--- a/x\n+++ b/x\n@@ -1,3 +1,3 @@\n a\r\n--- minus\n+++ plus\n c\n"
        b"\\ No newline at end of file\n"
    )
    painted = color(diff)
    bare = painted
    for code in (b"", b"1", b"31", b"32", b"36"):
        bare = bare.replace(b"\x1b[%sm" % code, b"")
    assert bare == diff
    assert b"\x1b[31m--- minus\x1b[m\n" in painted
    assert b"\x1b[32m+++ plus\x1b[m\n" in painted
    assert b"\x1b[1m--- a/x\x1b[m\n" in painted
    assert b"\x1b[36m@@ -1,3 +1,3 @@\x1b[m\n" in painted


def test_a_long_script_is_fast(tmp_path: Path) -> None:
    lines = [b"    value_%d = compute(%d)\n\n\n" % (number % 700, number % 90) for number in range(4000)]
    after = [*lines[:5], b"import x\n", *lines[5:3990], b"    call()\n", *lines[3991:]]
    diff = unified_diff([FileChange(tmp_path / "x", b"".join(lines), b"".join(after))], tmp_path, full=True)
    assert diff.count(b"@@ -") == 2

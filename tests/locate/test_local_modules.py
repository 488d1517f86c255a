"""Which file an import reads, below the entry script's folder and nowhere else."""

from __future__ import annotations

from pathlib import Path

import pytest

from energy_patch.locate.local_modules import local_module

FILES = (
    "finetune.py",
    "losses.py",
    "both.py",
    "both/__init__.py",
    "energy/energy_model.py",  # a folder without __init__.py is a package, too
    "package/__init__.py",
    "package/inner.py",
    "package/deep/__init__.py",
    "package/deep/leaf.py",
    "../outside.py",
)


@pytest.fixture
def script(tmp_path: Path) -> Path:
    for name in FILES:
        path = tmp_path / "scripts" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return tmp_path / "scripts" / "finetune.py"


@pytest.mark.parametrize(
    ("module", "level", "importer", "found"),
    [
        ("losses", 0, None, "losses.py"),
        ("both", 0, None, "both/__init__.py"),
        ("energy.energy_model", 0, None, "energy/energy_model.py"),
        ("energy", 0, None, None),
        ("package", 0, None, "package/__init__.py"),
        ("package.inner", 0, None, "package/inner.py"),
        ("package.deep.leaf", 0, None, "package/deep/leaf.py"),
        ("losses", 1, None, "losses.py"),
        ("outside", 2, None, None),
        ("inner", 0, "package/deep/leaf.py", None),
        ("losses", 0, "package/deep/leaf.py", "losses.py"),
        ("leaf", 1, "package/deep/leaf.py", "package/deep/leaf.py"),
        ("", 1, "package/deep/leaf.py", "package/deep/__init__.py"),
        ("", 2, "package/deep/leaf.py", "package/__init__.py"),
        ("inner", 2, "package/deep/leaf.py", "package/inner.py"),
        ("deep.leaf", 1, "package/__init__.py", "package/deep/leaf.py"),
        ("losses", 3, "package/deep/leaf.py", "losses.py"),
        ("outside", 4, "package/deep/leaf.py", None),
        ("scripts.losses", 0, None, "losses.py"),
        ("scripts.package.inner", 0, None, "package/inner.py"),
        ("scripts.losses", 0, "package/inner.py", "losses.py"),
        ("scripts.missing", 0, None, None),
        ("scripts", 0, None, None),
        ("other.losses", 0, None, None),
        ("torch", 0, None, None),
        ("", 0, None, None),
        ("..outside", 0, None, None),
        ("not/a name", 0, None, None),
    ],
)
def test_what_an_import_reads(script: Path, module: str, level: int, importer: str | None, found: str | None) -> None:
    home = script.parent
    answer = local_module(script, module, level, importer=home / importer if importer else None)
    assert answer == (home / found if found is not None else None)


def test_links_are_followed_and_must_stay_below(script: Path) -> None:
    home = script.parent
    (home / "near.py").symlink_to(home / "losses.py")
    (home / "far.py").symlink_to(home.parent / "outside.py")
    (home / "circle.py").symlink_to(home / "circle.py")
    assert local_module(script, "near") == home / "losses.py"
    assert local_module(script, "far") is None
    assert local_module(script, "circle") is None


def test_a_relative_path_of_the_script(script: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(script.parent)
    assert local_module(Path("finetune.py"), "losses") == script.parent / "losses.py"

"""A script flows through the folders once: each imports those above it in the list, and nothing below."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import energy_patch
from tests.scripts.folder_cases import write_files

PACKAGE = Path(energy_patch.__file__).parent
ORDER = (
    *("__init__", "refusal", "wrapping", "syntax", "strategies", "locate", "rewrite", "record", "unpatch", "files"),
    *("analysis", "diagnose", "report", "commands", "demo", "options", "cli", "__main__"),
)
FREE = ("cli", "commands", "__main__")  # may import all


def imported(path: Path, package: Path) -> Iterator[str]:
    """The parts of the package that a file imports, anywhere in it."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            names = [node.module or ""]
            if node.module == package.name:
                names = [f"{package.name}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            first, _, rest = name.partition(".")
            if first == package.name:
                part = rest.partition(".")[0]
                is_file = (package / part).is_dir() or (package / f"{part}.py").is_file()
                yield part if is_file else "__init__"  # what `__init__` defines, say the version


def upward(package: Path) -> list[str]:
    """Every import against the order, as `file: part`."""
    found = []
    for path in sorted(package.rglob("*.py")):
        name = path.relative_to(package)
        own = name.parts[0].removesuffix(".py")
        if own in FREE or name.parts[:2] == ("demo", "sample"):  # the sample is a codebase of its own
            continue
        found += [f"{name}: {part}" for part in imported(path, package) if ORDER.index(part) > ORDER.index(own)]
    return found


def test_imports_point_downwards_only() -> None:
    assert upward(PACKAGE) == []


def test_every_folder_has_its_place() -> None:
    parts = {path.name.removesuffix(".py") for path in PACKAGE.iterdir() if path.suffix == ".py" or path.is_dir()}
    assert parts - {"__pycache__"} == {*ORDER}


@pytest.mark.parametrize(
    "statement",
    [
        "from energy_patch.report.outcome import Outcome",
        "from energy_patch import report",
        "import energy_patch.report",
        "def later():\n    import energy_patch.report.outcome as o",
        "if TYPE_CHECKING:\n    from energy_patch.report import outcome",
    ],
)
def test_an_upward_import_is_noticed(statement: str, tmp_path: Path) -> None:
    files = {
        "energy_patch/__init__.py": "",
        "energy_patch/report/outcome.py": "from energy_patch.locate import facts\n",
        "energy_patch/locate/facts.py": "from energy_patch import __version__\n",
        "energy_patch/commands/apply.py": f"from energy_patch.cli import x\n{statement}\n",
    }
    write_files(tmp_path, files)
    assert upward(tmp_path / "energy_patch") == []
    write_files(tmp_path, {"energy_patch/locate/facts.py": statement})
    assert upward(tmp_path / "energy_patch") == ["locate/facts.py: report"]


def test_only_diagnose_depends_on_the_analysis() -> None:
    """What `apply` decides, it reads by itself."""
    parts = {"analysis", "diagnose"}
    files = [path for path in PACKAGE.rglob("*.py") if not parts & {*path.relative_to(PACKAGE).parts}]
    assert len(files) > 20
    users = {path.relative_to(PACKAGE).as_posix() for path in files if parts & {*imported(path, PACKAGE)}}
    assert users == {"commands/diagnose.py"}

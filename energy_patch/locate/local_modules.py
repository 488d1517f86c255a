"""Where an import of a local module leads: looked up on the file system as Python would, never imported."""

from __future__ import annotations

from pathlib import Path


def local_module(script: Path, module: str, level: int = 0, *, importer: Path | None = None) -> Path | None:
    """The file that an import reads, where it lies below the entry script's folder, or None.

    Python puts that folder first on `sys.path`, so what lies there is what is imported. `module` is the dotted name of
    `import module` or `from module import ...` and `level` counts the dots of a relative import (`from .. import x`:
    "" and 2). Relative imports start from `importer`, the file that holds the statement, which is the script itself
    where it is left out. In `from a import b`, `b` may be a module too: ask for "a" and for "a.b".

    Where nothing of that name lies there, a dotted name may start with the script's own folder: `lab.losses` in
    `lab/train.py`, which is started by `-m lab.train`.

    Links are resolved: a file that lies elsewhere is not local, whatever its name in the folder.
    """
    home = script.resolve().parent
    if level:
        folder = (importer or script).resolve().parent
        for _ in range(level - 1):
            folder = folder.parent
        return _file(home, folder, module)
    return (_file(home, home, module) or _in_own_folder(home, module)[1]) if module else None


def own_folder(script: Path, module: str) -> str:
    """How the absolute import of a local module starts with the script's own folder: `lab`, or nothing."""
    home = script.resolve().parent
    return _in_own_folder(home, module)[0] if _file(home, home, module) is None else ""


def _in_own_folder(home: Path, module: str) -> tuple[str, Path | None]:
    """The script's folder as a dotted name starts with it, and the file that the rest of the name is there."""
    parts = module.split(".")
    for length in range(1, len(parts) + 1):
        own, rest = parts[:length], ".".join(parts[length:])
        if [*home.parts[-length:]] == own and (path := _file(home, home, rest)) is not None:
            return ".".join(own), path
    return "", None


def _file(home: Path, folder: Path, module: str) -> Path | None:
    """The file of a module that is looked for in a folder, if it lies below the script's, `home`."""
    parts = module.split(".") if module else []
    if not all(part.isidentifier() for part in parts):
        return None
    stem = folder.joinpath(*parts)
    candidates = [stem / "__init__.py", *([stem.with_name(f"{stem.name}.py")] if parts else [])]
    for path in candidates:  # a package comes before a module of the same name
        try:
            if path.is_file():
                found = path.resolve()
                return found if found.is_relative_to(home) else None
        except OSError:  # a folder that may not be read, a circle of links
            continue
    return None

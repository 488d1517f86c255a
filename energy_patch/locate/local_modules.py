"""Where an import of a local module leads: looked up on the file system as Python would, never imported."""

from __future__ import annotations

from pathlib import Path


def local_module(script: Path, module: str, level: int = 0, *, importer: Path | None = None) -> Path | None:
    """The file that an import reads, where it lies below the entry script's folder, or None.

    Python puts that folder first on `sys.path`, so what lies there is what is imported. `module` is the dotted name of
    `import module` or `from module import ...` and `level` counts the dots of a relative import (`from .. import x`:
    "" and 2). Relative imports start from `importer`, the file that holds the statement, which is the script itself
    where it is left out. In `from a import b`, `b` may be a module too: ask for "a" and for "a.b".

    Links are resolved: a file that lies elsewhere is not local, whatever its name in the folder.
    """
    home = script.resolve().parent
    folder = home if level == 0 else (importer or script).resolve().parent
    for _ in range(level - 1):
        folder = folder.parent
    parts = module.split(".") if module else []
    if not all(part.isidentifier() for part in parts) or not (parts or level):
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

"""The local modules that a script reaches by its imports: read and parsed by Python's own parser, never imported."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from energy_patch.locate.local_modules import local_module, own_folder
from energy_patch.refusal import Refusal
from energy_patch.syntax.source import Source, parse

LEVELS = 8  # how many folders above a module are searched for a script that imports it
Read = Callable[[Path], Source]
Statement = ast.Import | ast.ImportFrom


@dataclass(frozen=True)
class Reached:
    """A local module, and whether the script leads to it by imports from its own package only, as relative ones are.

    `definitions` are its top-level functions and classes with the names that stand in them.
    """

    source: Source
    relative: bool
    definitions: Mapping[str, frozenset[str]] = field(default_factory=dict)


@dataclass(frozen=True)
class _Module:
    """A parsed module, seen as what importing it runs and what its definitions use."""

    source: Source
    tree: ast.Module
    relative: bool

    @cached_property
    def definitions(self) -> dict[str, frozenset[str]]:
        """Top-level functions and classes with the names that stand in them; a renamed import with its first name."""
        renamed = {
            alias.asname: frozenset({alias.name.rpartition(".")[2]})
            for node in _top_level(self.tree.body)
            if isinstance(node, ast.Import | ast.ImportFrom)
            for alias in node.names
            if alias.asname is not None
        }
        return {**renamed, **{node.name: _names(node) for node in self.tree.body if isinstance(node, _DEFINITIONS)}}

    @cached_property
    def registered(self) -> frozenset[str]:
        """Definitions that a decorator puts into a registry, from which a script takes them by a string."""
        return frozenset(
            node.name
            for node in self.tree.body
            if isinstance(node, _DEFINITIONS)
            and any("register" in ast.unparse(decorator).lower() for decorator in node.decorator_list)
        )

    @cached_property
    def runs(self) -> frozenset[str]:
        """The names in what runs when the module is imported; to import a name is not yet to use it."""
        others = (node for node in self.tree.body if not isinstance(node, _DEFINITIONS))
        return frozenset().union(*(_names(node, with_imports=False) for node in others))


_DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


@dataclass(frozen=True)
class Following:
    """What a script's imports lead to; `used` are the names that it uses, by itself and through these modules.

    `unread` are the local files that could not be read or parsed.
    """

    modules: tuple[Reached, ...]
    used: frozenset[str]
    unread: tuple[Path, ...]


def follow_imports(script: Source, read: Read) -> Following:
    """The modules below a script's folder that it imports, directly or through others, in the order of its imports.

    A module that cannot be read or parsed is left out: it is not what the user named.
    """
    unread: dict[Path, None] = {}
    entry, *modules = _modules(script, read, unread)
    used = entry.runs.union(*entry.definitions.values(), *(module.runs | module.registered for module in modules))
    size = 0
    while len(used) > size:
        size = len(used)
        used = used.union(*(names for module in modules for name, names in module.definitions.items() if name in used))
    return Following(
        tuple(Reached(module.source, module.relative, module.definitions) for module in modules), used, (*unread,)
    )


def leading(modules: Sequence[Reached], names: Iterable[str]) -> tuple[Reached, ...]:
    """The modules whose functions use one of some names, or a function that does."""
    known, found, size = {*names}, dict[int, Reached](), -1
    while len(known) > size:
        size = len(known)
        for module in modules:
            using = {name for name, used in module.definitions.items() if used & known}
            if using:
                found[id(module)] = module
                known |= using
    return tuple(found.values())


def imported_files(source: Source) -> frozenset[Path]:
    """The local files that a script's own imports read; none where it cannot be parsed."""
    try:
        return frozenset(path for path, _ in local_imports(parse(source.raw), source.path, source.path))
    except (SyntaxError, ValueError, RecursionError):
        return frozenset()


def binds(path: Path, name: str, script: Path, seen: frozenset[Path] = frozenset()) -> bool:
    """Whether a module's top level gives a name to whoever imports all of it; star imports are followed."""
    tree = _parsed(path)
    if tree is None or path in seen:
        return False
    for node in _top_level(tree.body):
        match node:
            case ast.FunctionDef() | ast.ClassDef() if node.name == name:
                return True
            case ast.Import() | ast.ImportFrom():
                if any((alias.asname or alias.name) == name for alias in node.names):
                    return True
                if any(alias.name == "*" for alias in node.names):
                    inner = local_module(script, _module_name(node), _level(node), importer=path)
                    if inner is not None and binds(inner, name, script, seen | {path}):
                        return True
    return False


def _modules(script: Source, read: Read, unread: dict[Path, None]) -> list[_Module]:
    """The script and the modules it imports; `unread` collects those that cannot be parsed."""
    entry = _Module(script, parse(script.raw), True)
    found = {script.path.resolve(): entry}
    waiting = [entry]
    while waiting:
        module = waiting.pop(0)
        for path, is_relative in local_imports(module.tree, script.path, module.source.path):
            if path in found or path in unread:
                continue
            try:
                source = read(path)
                tree = parse(source.raw)
            except (Refusal, SyntaxError, ValueError, RecursionError):
                unread[path] = None
                continue
            found[path] = _Module(source, tree, module.relative and is_relative)
            waiting.append(found[path])
    return [*found.values()]


def importer_above(module: Path) -> Path | None:
    """A script in a folder above a module's that imports it: Python then looks for what the module imports there.

    None where a script in the module's own folder imports it by its bare name, so that this folder is on `sys.path`.
    """
    module = module.resolve()
    if any(_imports(script, module, absolutely=True) for script in sorted(module.parent.glob("*.py"))):
        return None
    for folder in [*module.parent.parents][:LEVELS]:
        for script in sorted(folder.glob("*.py")):
            if _imports(script, module):
                return script
        if (folder / ".git").exists():
            break
    return None


def _imports(script: Path, module: Path, *, absolutely: bool = False) -> bool:
    is_named = module.name != "__init__.py" and module.stem.isascii()
    tree = _parsed(script, holding=module.stem.encode() if is_named else b"")
    found = local_imports(tree, script, script) if tree is not None else ()
    return any(path == module and not (absolutely and is_relative) for path, is_relative in found)


def local_imports(tree: ast.Module, script: Path, importer: Path) -> Iterator[tuple[Path, bool]]:
    """The local files that the imports anywhere in a module read, and whether as parts of the script's own package."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Import | ast.ImportFrom):
            continue
        level, base = _level(node), _module_name(node)
        if isinstance(node, ast.ImportFrom):
            names = [base, *(f"{base}.{alias.name}".lstrip(".") for alias in node.names if alias.name != "*")]
        else:
            names = [alias.name for alias in node.names]
        for name in names:
            path = local_module(script, name, level, importer=importer)
            if path is not None:
                yield path, level > 0 or own_folder(script, name) != ""


def _level(node: Statement) -> int:
    return node.level if isinstance(node, ast.ImportFrom) else 0


def _module_name(node: Statement) -> str:
    return (node.module or "") if isinstance(node, ast.ImportFrom) else ""


def _names(node: ast.AST, *, with_imports: bool = True) -> frozenset[str]:
    names: set[str] = set()
    for part in ast.walk(node):
        if isinstance(part, ast.Name):
            names.add(part.id)
        elif isinstance(part, ast.Attribute):
            names.add(part.attr)
        elif isinstance(part, ast.alias) and with_imports:
            names.add(part.name.rpartition(".")[2])
    return frozenset(names)


def _top_level(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """Statements that run at import, those under `if` and `try` too."""
    for node in body:
        yield node
        for name in ("body", "orelse", "finalbody"):
            if isinstance(node, ast.If | ast.Try):
                yield from _top_level(getattr(node, name, []))


def _parsed(path: Path, *, holding: bytes = b"") -> ast.Module | None:
    """None also where a file does not hold some text: parsing all scripts of a large folder takes seconds."""
    try:
        raw = path.read_bytes() if path.is_file() else None  # not of a pipe, which nobody may fill
        return parse(raw) if raw is not None and holding in raw else None
    except (OSError, SyntaxError, ValueError, RecursionError):
        return None

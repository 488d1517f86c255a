"""Find the loss, the function and the config around it, and the imports, in a script that is only ever read."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import libcst as cst

from energy_patch.locate.branches import unreached_branches
from energy_patch.locate.call_facts import call_facts, identifiers
from energy_patch.locate.callers import Callers
from energy_patch.locate.config_fields import config
from energy_patch.locate.config_names import ConfigNames
from energy_patch.locate.dominance import Dominance
from energy_patch.locate.facts import ORIGINAL_LOSS, Call, Facts, Function, Lead, LoneExit
from energy_patch.locate.imports import distributed, import_point
from energy_patch.locate.leads import OpenFile, leads
from energy_patch.locate.logged import logged_energies
from energy_patch.locate.lone_exits import lone_exits
from energy_patch.locate.loss_calls import loss_calls, refuse_other_references
from energy_patch.locate.near_misses import near_misses, renamed
from energy_patch.locate.reached import Following, Reached, Read, follow_imports, leading
from energy_patch.refusal import NotCalled, Refusal
from energy_patch.strategies.base import FOLDER_NAME
from energy_patch.syntax.source import Source, check_compiles
from energy_patch.syntax.tree import Tree, deep_trees


def locate(script: Source, read: Read) -> tuple[Facts, ...]:
    """The facts of a script, and of the local modules it imports that call the loss in what it uses.

    `read` gives a module's source as it is without a patch.

    Raises:
        NotCalled: the loss is not called.
        Refusal: it is not called in a way that can be patched.
    """
    check_compiles(script)  # at Python's own recursion limit: what is nested deeper crashes LibCST's parser
    following = follow_imports(script, read)
    with deep_trees():
        entry = _opened(script, script)
        named = [module for module in following.modules if ORIGINAL_LOSS in module.source.text]
        used = following.used - _own_functions(entry)
        opened = [(module, _opened(module.source, script, used)) for module in named]
        opened = [(module, file) for module, file in opened if file.found]
        if not entry.found and not opened:
            raise NotCalled("not-found", near_misses(script, [*_unused(named, script), *_unread(following, script)]))
        reached = [_facts(file, module) for module, file in opened]
        ways, exits = _leads(following, entry, opened, script)
        facts = _facts(entry)
    return (replace(facts, leads=ways, warnings=(*facts.warnings, *exits)), *reached)


def _opened(source: Source, script: Source, used: frozenset[str] | None = None) -> OpenFile:
    """A parsed file with its calls of the loss; of a module, only those in what the script uses count.

    Raises:
        Refusal: the loss is used, too, in a way that cannot be patched.
    """
    name = "" if source is script else _name(source.path, script)
    with _told_of(name):
        tree = Tree(source, is_checked=True, script=script.path)
        all_calls = loss_calls(tree)
        found = [use for use in all_calls if used is None or _is_used(tree, use[0], used)]
        if found or used is None:
            refuse_other_references(tree, all_calls)
    return OpenFile(name, tree, Callers(tree), tuple(found))


def _is_used(tree: Tree, call: cst.Call, used: frozenset[str]) -> bool:
    """Whether a module's call is run by whoever imports the module and uses these names: `__main__` blocks are not."""
    name = top_level_name(tree, call)
    top = [call, *tree.ancestors(call)][-2]
    return name in used if name is not None else not (isinstance(top, cst.If) and "__main__" in tree.text(top.test))


def _own_functions(entry: OpenFile) -> frozenset[str]:
    """What a script that calls the loss itself defines: its `train` is not the one of a module."""
    bindings = entry.tree.root.bindings
    names = {name for name, bound in bindings.items() if any(item.kind in ("function", "class") for item in bound)}
    return frozenset(names) if entry.found else frozenset()


@contextmanager
def _told_of(module: str) -> Iterator[None]:
    """A refusal inside says which module it speaks of, if it is of one."""
    try:
        yield
    except Refusal as refusal:
        raise (refusal.about(module) if module else refusal) from None


def _leads(
    following: Following, entry: OpenFile, opened: Sequence[tuple[Reached, OpenFile]], script: Source
) -> tuple[tuple[Lead, ...], tuple[LoneExit, ...]]:
    """The calls that lead from the script, through its modules, to a loss in another file."""
    holding = {name for _, file in opened for call, _ in file.found if (name := top_level_name(file.tree, call))}
    others = [module for module in leading(following.modules, holding) if module not in [item for item, _ in opened]]
    between = [
        OpenFile(_name(module.source.path, script), tree, Callers(tree))
        for module in others
        for tree in [Tree(module.source, is_checked=True, script=script.path)]
    ]
    return leads([entry, *(file for _, file in opened), *between]) if opened else ((), ())


def _unused(named: Sequence[Reached], script: Source) -> Iterator[str]:
    for module in named:
        file = _opened(module.source, script)  # a module may also hand the loss on
        for call, _ in file.found:
            yield f"{file.name}, line {file.tree.line(call)}: a call in what this script does not use"
        for line, name in renamed(module.source, script):
            yield f"{file.name}, line {line}: the loss by the name {name}; import {ORIGINAL_LOSS} itself and call that"


def _unread(following: Following, script: Source) -> Iterator[str]:
    for path in following.unread:
        yield f"{_name(path, script)}: cannot be read as Python, and was left out"


def _name(path: Path, script: Source) -> str:
    return path.relative_to(script.path.resolve().parent).as_posix()


def _facts(file: OpenFile, reached: Reached | None = None) -> Facts:
    """The facts of one file."""
    tree, callers, found = file.tree, file.callers, [*file.found]
    names = ConfigNames(tree, callers, Dominance(tree), found)
    functions: dict[cst.FunctionDef, Function] = {}
    with _told_of(file.name):
        settings = None if reached else config(tree, names)
        calls = tuple(call_facts(tree, callers, names, settings, call, scope, functions) for call, scope in found)
    first = _first_use(tree, calls)
    imports, prefix = import_point(tree, found, first)
    return Facts(
        source=tree.source,
        calls=calls,
        config=settings,
        imports=imports,
        package=_package(tree, reached, prefix),
        distributed=distributed(tree, first),
        identifiers=identifiers(tree),
        warnings=lone_exits(tree, callers, found),
        logged=logged_energies(tree, found),
        branches=unreached_branches(tree, found),
        is_reached=reached is not None,
    )


def top_level_name(tree: Tree, call: cst.Call) -> str | None:
    """The top-level function or class that a call stands in; None where importing the module comes to it."""
    path = [call, *tree.ancestors(call)]
    top = path[-2]
    return top.name.value if isinstance(top, cst.FunctionDef | cst.ClassDef) else None


def _package(tree: Tree, reached: Reached | None, prefix: str) -> str:
    """How `energy_losses/`, which lies beside the script, is named in an import."""
    if reached is None:
        return prefix + FOLDER_NAME
    depth = len(tree.source.path.relative_to(tree.script.resolve().parent).parts)
    return f"{'.' * depth}{FOLDER_NAME}" if reached.relative else FOLDER_NAME


def _first_use(tree: Tree, calls: Iterable[Call]) -> int:
    """How many of the module's statements come before the first one that holds a call: imports go there."""
    offsets = [call.function.start for call in calls] or [len(tree.source.text)]
    lines = [tree.first_line(statement) for statement in tree.module.body]
    return max(bisect_right(lines, tree.source.line_of(min(offsets))) - 1, 0)

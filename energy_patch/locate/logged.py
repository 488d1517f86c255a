"""Where a script logs the energies that the loss returns: the dictionary they go into, and what averages it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

import libcst as cst

from energy_patch.locate.callers import Use
from energy_patch.locate.facts import Bracketed, Display, Item, LoggedEnergies
from energy_patch.syntax.layout import comma_end, outer_span, statement_of
from energy_patch.syntax.nodes import descendants
from energy_patch.syntax.places import Span
from energy_patch.syntax.tree import Tree

Written = cst.Dict | cst.List | cst.Tuple | cst.Set


def logged_energies(tree: Tree, found: Sequence[Use]) -> LoggedEnergies:
    """The dictionary displays that hold an energy the loss returned, and the displays with the same keys elsewhere."""
    dictionaries: dict[cst.Dict, Display] = {}
    keys: set[str] = set()
    for call, scope in found:
        names = _energies(tree, call)
        for node in descendants(scope.function().node):
            if isinstance(node, cst.Dict) and (entries := _entries(tree, node, names)):
                keys |= {key for key, _, _ in entries}
                _, value, name = entries[-1]
                dictionaries[node] = _display(tree, node, re.sub(rf"\b{name}\b", "{figure}", value))
    averages = [
        display
        for node in descendants(tree.module)
        if isinstance(node, Written) and node not in dictionaries
        for display in _same_keys(tree, node, keys)
    ]
    return LoggedEnergies(tuple(dictionaries.values()), tuple(averages) if len(dictionaries) == 1 else ())


def _energies(tree: Tree, call: cst.Call) -> frozenset[str]:
    """The names that a statement `loss, E_pos, E_neg = CALL` gives the two energies."""
    statement = statement_of(tree, call)
    for node in descendants(statement):
        if isinstance(node, cst.Assign) and node.value is call and isinstance(node.targets[0].target, cst.Tuple):
            elements = [element.value for element in node.targets[0].target.elements[1:3]]
            return frozenset(element.value for element in elements if isinstance(element, cst.Name)) - {"_"}
    return frozenset()


def _entries(tree: Tree, node: cst.Dict, names: frozenset[str]) -> list[tuple[str, str, str]]:
    """Entries whose value is one of the energies, perhaps converted: key, value as written, and the energy's name."""
    found = []
    for element in node.elements:
        if isinstance(element, cst.DictElement) and isinstance(element.key, cst.SimpleString):
            used = {part.value for part in descendants(element.value) if isinstance(part, cst.Name)} & names
            if len(used) == 1:
                value = tree.source.text[slice(*outer_span(tree, element.value))]
                found.append((str(element.key.raw_value), value, used.pop()))
    return found


def _same_keys(tree: Tree, node: Written, keys: set[str]) -> Iterator[Display]:
    """A display that has all these keys or strings as well: what averages or lists the entries."""
    if not keys:
        return
    if isinstance(node, cst.Dict):
        values = {
            str(element.key.raw_value): element.value
            for element in node.elements
            if isinstance(element, cst.DictElement) and isinstance(element.key, cst.SimpleString)
        }
        if keys <= {*values}:
            yield _display(tree, node, tree.source.text[slice(*outer_span(tree, values[min(keys)]))])
    elif keys <= {str(e.value.raw_value) for e in node.elements if isinstance(e.value, cst.SimpleString)}:
        yield _display(tree, node, None)


def _display(tree: Tree, node: Written, value: str | None) -> Display:
    text = tree.source.text
    items = []
    for element in node.elements:
        start, end = tree.span(element)
        is_starred = isinstance(element, cst.StarredDictElement)
        items.append(Item(Span(start, end), comma_end(text, end), None, "**" if is_starred else ""))
    start, end = tree.span(node)
    return Display(tree.line(node), Bracketed(start, end - 1, tuple(items)), value)

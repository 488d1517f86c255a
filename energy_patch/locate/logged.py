"""Where a script logs the energies that the loss returns: the dictionary they go into, and what averages it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import libcst as cst

from energy_patch.locate.callers import Use
from energy_patch.locate.facts import LoggedEnergies
from energy_patch.locate.written import Bracketed, Display, Item
from energy_patch.syntax.layout import comma_end, outer_span, statement_of
from energy_patch.syntax.nodes import descendants
from energy_patch.syntax.places import Span
from energy_patch.syntax.scopes import Scope
from energy_patch.syntax.tree import Tree

Written = cst.Dict | cst.List | cst.Tuple | cst.Set
# What cannot be written a second time for another figure.
_ONCE = (cst.NamedExpr, cst.Await, cst.Yield, cst.Lambda, cst.FormattedString, cst.ConcatenatedString)


def logged_energies(tree: Tree, found: Sequence[Use]) -> LoggedEnergies:
    """The dictionary displays that hold an energy the loss returned, and the displays with the same keys elsewhere."""
    dictionaries: dict[cst.Dict, Display] = {}
    keys: set[str] = set()
    for call, scope in found:
        for node in _dictionaries(tree, call, scope):
            if entries := _entries(tree, node, _energies(tree, call), scope):
                keys |= {key for key, _ in entries}
                templates = [text for _, text in entries if text is not None]
                dictionaries[node] = _display(tree, node, templates[-1] if templates else None)
    averages = [
        display
        for node in descendants(tree.module)
        if isinstance(node, Written) and node not in dictionaries
        for display in _same_keys(tree, node, keys)
    ]
    return LoggedEnergies(tuple(dictionaries.values()), tuple(averages) if len(dictionaries) == 1 else ())


def _dictionaries(tree: Tree, call: cst.Call, scope: Scope) -> Iterator[cst.Dict]:
    """The dictionaries of the function that calls the loss, below the call: above it there is no figure yet."""
    line = tree.line(call)
    for node in descendants(scope.function().node):
        if isinstance(node, cst.Dict) and tree.scopes[node].function() is scope.function() and tree.line(node) >= line:
            yield node


def _energies(tree: Tree, call: cst.Call) -> frozenset[str]:
    """The names that a statement `loss, E_pos, E_neg = CALL` gives the two energies."""
    statement = statement_of(tree, call)
    for node in descendants(statement):
        if isinstance(node, cst.Assign) and node.value is call and isinstance(node.targets[0].target, cst.Tuple):
            elements = [element.value for element in node.targets[0].target.elements[1:3]]
            return frozenset(element.value for element in elements if isinstance(element, cst.Name)) - {"_"}
    return frozenset()


def _entries(tree: Tree, node: cst.Dict, names: frozenset[str], scope: Scope) -> list[tuple[str, str | None]]:
    """Entries whose value is one of the energies: the key, and the value with `{figure}` where the energy stands.

    The value is None where it cannot be written a second time, or where the energy may come from elsewhere.
    """
    found = []
    for element in node.elements:
        if not isinstance(element, cst.DictElement) or not isinstance(element.key, cst.SimpleString):
            continue
        used = [part for part in descendants(element.value) if isinstance(part, cst.Name) and part.value in names]
        used = [part for part in used if tree.scopes.get(part) is tree.scopes[node]]
        if len({part.value for part in used}) != 1:
            continue
        is_once = any(isinstance(part, _ONCE) for part in descendants(element.value))
        is_known = len(scope.resolve(used[0].value)) == 1
        text = None if is_once or not is_known else _replaced(tree, element.value, used, "{figure}")
        found.append((str(element.key.raw_value), text))
    return found


def _replaced(tree: Tree, node: cst.BaseExpression, parts: Sequence[cst.CSTNode], text: str) -> str:
    """An expression as written, with some of its parts replaced."""
    start, end = outer_span(tree, node)
    written, at = "", start
    for part in sorted(parts, key=tree.span):
        first, last = tree.span(part)
        written += tree.source.text[at:first] + text
        at = last
    return written + tree.source.text[at:end]


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
            yield _display(tree, node, _of_any_key(tree, values[min(keys)], min(keys)))
    elif keys <= {str(e.value.raw_value) for e in node.elements if isinstance(e.value, cst.SimpleString)}:
        yield _display(tree, node, "{key}")


def _of_any_key(tree: Tree, value: cst.BaseExpression, key: str) -> str | None:
    """A value with `{key}` where its own key stands, or one that starts anew for each key; None for any other."""
    inside = [*descendants(value)]
    if any(isinstance(part, _ONCE) for part in inside):
        return None
    named = [part for part in inside if isinstance(part, cst.SimpleString) and str(part.raw_value) == key]
    if named:
        return _replaced(tree, value, named, "{key}")
    starts_anew = isinstance(value, cst.BaseNumber | cst.SimpleString | cst.Call | cst.List)
    is_none = isinstance(value, cst.Name) and value.value == "None"
    return _replaced(tree, value, [], "") if starts_anew or is_none else None


def _display(tree: Tree, node: Written, value: str | None) -> Display:
    text = tree.source.text
    items = []
    for element in node.elements:
        start, end = tree.span(element)
        is_starred = isinstance(element, cst.StarredDictElement)
        items.append(Item(Span(start, end), comma_end(text, end), None, "**" if is_starred else ""))
    # A tuple may have no brackets of its own.
    start, end = outer_span(tree, node)
    return Display(tree.line(node), Bracketed(start, end - 1, tuple(items)), value)

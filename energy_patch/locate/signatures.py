"""Arguments and parameters as written, with their places, and the function around a call with its callers."""

from __future__ import annotations

from collections.abc import Iterable

import libcst as cst

from energy_patch.locate.callers import Callers
from energy_patch.locate.config_names import ConfigNames
from energy_patch.locate.facts import Caller, Function
from energy_patch.locate.written import Argument, Bracketed, Item, Parameter
from energy_patch.refusal import Refusal
from energy_patch.syntax.layout import (
    comma_end,
    outer_span,
    skip_layout,
)
from energy_patch.syntax.nodes import all_parameters
from energy_patch.syntax.places import Span
from energy_patch.syntax.scopes import Scope
from energy_patch.syntax.tree import Tree


def function(tree: Tree, callers: Callers, names: ConfigNames, node: cst.FunctionDef, inner: Scope) -> Function:
    calls, references = callers.uses_of_function(node)
    if not callers.is_transparent(node):
        # What the decorator made of it may not take one argument more.
        references = [*(call.func for call, _ in calls), *references]
        calls = []
    return Function(
        name=node.name.value,
        line=tree.line(node.name),
        parameters=_parameters(tree, node),
        callers=tuple(_caller(tree, names, call, scope, inner) for call, scope in calls),
        reference_lines=tuple(tree.line(reference) for reference in references),
        bound=frozenset(inner.bindings),
    )


def _caller(tree: Tree, names: ConfigNames, call: cst.Call, scope: Scope, callee: Scope) -> Caller:
    around = scope.function().node
    within = around.name.value if isinstance(around, cst.FunctionDef) else "the module"
    is_recursive = around is callee.node
    return Caller(tree.line(call), within, arguments(tree, call), names.expression(scope, call), is_recursive)


def arguments(tree: Tree, call: cst.Call) -> Bracketed:
    """The arguments of a call as written.

    Raises:
        Refusal: `unsupported`, where an argument could not be followed by another one.
    """
    text = tree.source.text
    open_ = tree.span(call.func)[1]
    while text[open_] != "(":
        open_ = skip_layout(text, open_ + 1 if text[open_] == ")" else open_)
    close = tree.span(call)[1] - 1
    items = []
    for argument in call.args:
        start, end = tree.span(argument)
        if isinstance(argument.value, cst.GeneratorExp) and not argument.value.lpar:
            message = "this call passes a generator without parentheses of its own; put it in parentheses and run again"
            raise Refusal("unsupported", message, line=tree.line(call))
        items.append(
            Argument(
                Span(start, end),
                comma_end(text, end),
                argument.keyword.value if argument.keyword else None,
                argument.star,
                text[slice(*outer_span(tree, argument.value))],
                isinstance(argument.value, cst.BaseNumber | cst.BaseString)
                or (isinstance(argument.value, cst.Name) and argument.value.value in ("None", "True", "False")),
            )
        )
    return bracketed(text, open_, close, items)


def _parameters(tree: Tree, node: cst.FunctionDef) -> Bracketed:
    text = tree.source.text
    open_ = skip_layout(text, tree.span(node.name)[1])
    if text[open_] == "[":  # type parameters (PEP 695)
        assert node.type_parameters is not None
        open_ = text.index("]", tree.span(node.type_parameters)[1] - 1) + 1
        open_ = skip_layout(text, open_)
    items: list[Item] = []
    parameters = node.params
    for parameter in all_parameters(parameters):
        if isinstance(parameters.star_arg, cst.ParamStar) and parameter is next(iter(parameters.kwonly_params), None):
            items.append(_separator(text, items, open_, "*"))
        items.append(_parameter(tree, parameter))
        if parameters.posonly_params and parameter is parameters.posonly_params[-1]:
            items.append(_separator(text, items, open_, "/"))
    end = items[-1] if items else None
    close = skip_layout(text, (end.comma_end or end.span.end) if end else open_ + 1)
    return bracketed(text, open_, close, items)


def _parameter(tree: Tree, parameter: cst.Param) -> Parameter:
    text = tree.source.text
    start = tree.span(parameter)[0]
    last = parameter.default or (parameter.annotation.annotation if parameter.annotation else parameter.name)
    end = outer_span(tree, last)[1]
    default = text[slice(*outer_span(tree, parameter.default))] if parameter.default else None
    equal = "="
    if parameter.default is not None:
        before = parameter.annotation.annotation if parameter.annotation else parameter.name
        gap = text[outer_span(tree, before)[1] : outer_span(tree, parameter.default)[0]]
        equal = gap if gap.strip(" ") == "=" else "="
    return Parameter(
        Span(start, end),
        comma_end(text, end),
        parameter.name.value,
        parameter.star if isinstance(parameter.star, str) else "",
        parameter.annotation is not None,
        default,
        equal,
    )


def _separator(text: str, items: list[Item], open_: int, sign: str) -> Item:
    previous = items[-1] if items else None
    start = skip_layout(text, (previous.comma_end or previous.span.end) if previous else open_ + 1)
    assert text[start] == sign
    return Item(Span(start, start + 1), comma_end(text, start + 1), None, sign)


def bracketed(text: str, open_: int, close: int, items: Iterable[Item]) -> Bracketed:
    if text[open_] != "(" or text[close] != ")":
        raise AssertionError(f"parentheses expected at {open_} and {close}")
    return Bracketed(open_, close, tuple(items))

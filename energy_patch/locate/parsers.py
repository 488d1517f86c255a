"""The options of a script that reads them with argparse: what a config class is to other scripts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import libcst as cst

from energy_patch.locate.config_classes import annotated_class
from energy_patch.locate.facts import Config, ConfigField
from energy_patch.locate.instances import names_given
from energy_patch.syntax.layout import outer_span, point_after, statement_of
from energy_patch.syntax.nodes import called_name, dotted_name, returns_of
from energy_patch.syntax.places import Span
from energy_patch.syntax.scopes import Binding, Scope
from energy_patch.syntax.tree import Tree


@dataclass(frozen=True)
class Parser:
    """The one `ArgumentParser` of a script: its name, the scope that it belongs to, and its `add_argument` calls."""

    tree: Tree
    name: str
    owner: Scope
    line: int
    options: tuple[cst.Call, ...]

    @cached_property
    def names(self) -> frozenset[str]:
        """The names that are given the parsed arguments anywhere."""
        return names_given(self.tree, self.makes)

    def makes(self, binding: Binding) -> bool:
        """Whether a name is given the parsed arguments."""
        if isinstance(binding.node, cst.Param):
            return annotated_class(binding.node.annotation) in ("Namespace", "argparse.Namespace")
        is_whole = isinstance(binding.node, cst.Assign) and isinstance(binding.node.targets[0].target, cst.Name)
        return is_whole and self.is_made(binding.value)

    def is_made(self, value: cst.CSTNode | None) -> bool:
        """`parser.parse_args()`, or a call of a function that returns it."""
        if not isinstance(value, cst.Call):
            return False
        if dotted_name(value.func) == f"{self.name}.parse_args":
            return self.tree.scopes[value].owner(self.name) is self.owner
        bindings = self.tree.scopes[value].resolve(dotted_name(value.func) or "")
        returned = [
            node.value
            for binding in bindings
            if isinstance(binding.node, cst.FunctionDef)
            for node in returns_of(binding.node)
        ]
        return bool(returned) and all(item is not value and self.is_made(item) for item in returned)


def find_parser(tree: Tree) -> Parser | None:
    """The script's parser, where it has exactly one and adds options in the block that makes it."""
    made = [
        (name, binding.node, scope)
        for scope in tree.all_scopes
        for name, bindings in scope.bindings.items()
        for binding in bindings
        if isinstance(binding.node, cst.Assign)
        and isinstance(binding.value, cst.Call)
        and called_name(binding.value) == "ArgumentParser"
    ]
    if len(made) != 1:
        return None
    ((name, node, owner),) = made
    block = tree.parents[tree.parents[node]]
    options = tuple(
        call
        for call, scope in tree.calls
        if dotted_name(call.func) == f"{name}.add_argument"
        and scope.owner(name) is owner
        and tree.parents[statement_of(tree, call)] is block
    )
    parsed = [call for call, _ in tree.calls if dotted_name(call.func) == f"{name}.parse_args"]
    if not options or any(tree.line(call) < tree.line(options[-1]) for call in parsed if _stands_in(tree, call, block)):
        return None
    return Parser(tree, name, owner, tree.line(node), options)


def parser_config(parser: Parser) -> Config:
    """A parser as a config: its options are the fields."""
    return Config(
        name=parser.name,
        line=parser.line,
        fields=tuple(_fields(parser)),
        after_fields=point_after(parser.tree, statement_of(parser.tree, parser.options[-1])),
        comment_column=None,
        is_parser=True,
    )


def option_names(parser: Parser) -> frozenset[str]:
    """The attributes of the parsed arguments."""
    return frozenset(name for call in parser.options if (name := _destination(call)) is not None)


def _fields(parser: Parser) -> Iterator[ConfigField]:
    for call in parser.options:
        name = _destination(call)
        if name is None:
            continue
        given = {item.keyword.value: item for item in call.args if item.keyword is not None}
        kind, default = given.get("type"), given.get("default")
        span = Span(*parser.tree.span(default or call))
        value = Span(*outer_span(parser.tree, default.value)) if default else None
        annotation = parser.tree.text(kind.value) if kind else "str"
        yield ConfigField(
            name=name,
            annotation=f"{annotation} | None" if _may_be_none(call, given) else annotation,
            default=parser.tree.source.text[value.start : value.end] if value else None,
            statement=span,
            value=value,
            line=parser.tree.line(call),
        )


def _may_be_none(call: cst.Call, given: dict[str, cst.Arg]) -> bool:
    """Whether an option has no value where the command line does not give it."""
    if "default" in given:
        return dotted_name(given["default"].value) == "None"
    flag = call.args[0].value if call.args else None
    is_flag = isinstance(flag, cst.SimpleString) and str(flag.evaluated_value).startswith("-")
    return is_flag and "required" not in given


def _destination(call: cst.Call) -> str | None:
    """What an option is called in the parsed arguments."""
    texts = [
        (item.keyword.value if item.keyword else "", str(item.value.evaluated_value))
        for item in call.args
        if isinstance(item.value, cst.SimpleString)
    ]
    flags = [text for keyword, text in texts if not keyword]
    flags = [flag for flag in flags if flag.startswith("--")] or flags
    named = [text for keyword, text in texts if keyword == "dest"] or [flag.lstrip("-") for flag in flags]
    return named[0].replace("-", "_") if named else None


def _stands_in(tree: Tree, node: cst.CSTNode, block: cst.CSTNode) -> bool:
    return block in tree.ancestors(node)

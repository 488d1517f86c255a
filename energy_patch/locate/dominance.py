"""Dominance: what has always run when a statement is reached."""

from __future__ import annotations

import libcst as cst

from energy_patch.syntax.nodes import descendants, dotted_name, last_statement
from energy_patch.syntax.scopes import Scope
from energy_patch.syntax.tree import Tree


class Dominance:
    """Answers about which statements of one tree dominate others."""

    def __init__(self, tree: Tree) -> None:
        self.tree = tree

    def is_set(self, name: str, owner: Scope, at: cst.CSTNode) -> bool:
        """Whether a name of a scope always has its value when a node inside is reached."""
        nodes = frozenset(binding.node for binding in owner.bindings[name])
        parameters = [node for node in nodes if isinstance(node, cst.Param)]
        if parameters and not any(may_be_none(node) for node in parameters):
            return True
        inner = at
        for ancestor in self.tree.ancestors(at):
            if ancestor is owner.node:
                break
            if isinstance(ancestor, cst.FunctionDef):
                inner = ancestor
        child = inner
        for ancestor in self.tree.ancestors(inner):
            if isinstance(ancestor, cst.IndentedBlock | cst.Module):
                above = ancestor.body[: [*ancestor.body].index(child)]  # type: ignore[arg-type]
                if any(_always_runs(statement, nodes) for statement in above):
                    return True
            if ancestor is owner.node:
                break
            child = ancestor
        if inner is at or owner is not self.tree.root:
            return False
        return any(
            self._is_set_before_calls(statement, inner)
            for statement in self.tree.module.body
            if _always_runs(statement, nodes)
        )

    def dominates(self, statement: cst.CSTNode, node: cst.CSTNode) -> bool:
        """Whether a statement stands above a node in its block or one around it."""
        block = self.tree.parents[statement]
        path = [node, *self.tree.ancestors(node)]
        if block not in path or not isinstance(block, cst.IndentedBlock | cst.Module):
            return False
        child = path[path.index(block) - 1]
        body = [*block.body]
        return child in body and body.index(statement) < body.index(child)  # type: ignore[arg-type]

    def _is_set_before_calls(self, statement: cst.CSTNode, definition: cst.CSTNode) -> bool:
        """Whether a module's statement below a function's definition runs before anything can call the function."""
        block = self.tree.module
        path = [definition, *self.tree.ancestors(definition)]
        body: list[cst.CSTNode] = [*block.body]
        between = body[body.index(path[path.index(block) - 1]) + 1 : body.index(statement)]
        for item in between:
            if isinstance(item, cst.FunctionDef | cst.ClassDef) and not item.decorators:
                continue
            for node in descendants(item):
                if isinstance(node, cst.Call) and any(
                    isinstance(binding.node, cst.FunctionDef | cst.ClassDef)
                    for binding in self.tree.root.resolve((dotted_name(node.func) or "").split(".")[0])
                ):
                    return False
        return True


def _always_runs(statement: cst.CSTNode, nodes: frozenset[cst.CSTNode]) -> bool:
    """Whether one of some nodes is executed whenever a statement is, and what follows it is reached."""
    match statement:
        case cst.SimpleStatementLine() | cst.SimpleStatementSuite():
            return any(node in nodes for node in descendants(statement))
        case cst.IndentedBlock():
            return any(_always_runs(item, nodes) for item in statement.body) or _leaves(statement)
        case cst.If():
            return (
                statement.orelse is not None
                and _always_runs(statement.body, nodes)
                and _always_runs(statement.orelse, nodes)
            )
        case cst.With() | cst.Else() | cst.Finally() | cst.ExceptHandler():
            return _always_runs(statement.body, nodes)
        case cst.Try():
            parts = [statement.body, *statement.handlers]
            in_all = all(_always_runs(part, nodes) for part in parts)
            return in_all or (statement.finalbody is not None and _always_runs(statement.finalbody, nodes))
    return False


def _leaves(block: cst.IndentedBlock) -> bool:
    return isinstance(last_statement(block), cst.Return | cst.Raise | cst.Continue | cst.Break)


def may_be_none(parameter: cst.Param) -> bool:
    """Whether a parameter's default or annotation says that it can be None."""
    if parameter.default is not None and dotted_name(parameter.default) == "None":
        return True
    node = parameter.annotation.annotation if parameter.annotation else None
    if isinstance(node, cst.SimpleString):
        return "None" in str(node.raw_value) or "Optional" in str(node.raw_value)
    return node is not None and any(
        isinstance(part, cst.Name) and part.value in ("None", "Optional") for part in descendants(node)
    )

"""What makes an instance of a class, and which names are given one."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property

import libcst as cst

from energy_patch.locate.callers import first_parameter
from energy_patch.locate.config_classes import annotated_class, bases
from energy_patch.syntax.nodes import called_name, descendants, dotted_name, last_name, returns_of
from energy_patch.syntax.scopes import Binding
from energy_patch.syntax.tree import Tree

# How an instance is made from a config class, other than by calling it.
PARSERS = frozenset({"parse", "cli", "structured", "parse_config", "load_config", "from_cli", "CLI"})
# Of a method that stands in no class of this file, only its name tells what it makes.
METHODS = re.compile(r"(?:from|load|parse|read|make|create|get|default|new)(?:_(?!\w*(?:parser|model|optim))\w+)?")


@dataclass(frozen=True)
class Instances:
    """Answers about the instances of one class of a tree."""

    tree: Tree
    node: cst.ClassDef

    @property
    def name(self) -> str:
        return self.node.name.value

    @cached_property
    def names(self) -> frozenset[str]:
        """The names that are given an instance anywhere."""
        return names_given(self.tree, self.makes)

    def makes(self, binding: Binding) -> bool:
        """Whether a name is given an instance: by annotation or by what makes one."""
        node = binding.node
        if isinstance(node, cst.Param):
            return annotated_class(node.annotation) == self.name and not self._is_only_a_type
        if binding.kind != "assign":
            return False
        if isinstance(node, cst.AnnAssign) and annotated_class(node.annotation) == self.name:
            return self.is_made(node.value) or self._may_be_made(node)
        targets = node.targets if isinstance(node, cst.Assign) else ()
        is_whole = all(isinstance(target.target, cst.Name | cst.Attribute) for target in targets)
        return is_whole and self.is_made(binding.value)

    def is_made(self, value: cst.CSTNode | None) -> bool:
        """`C(...)`, `C.load(...)` or `parse(C)`."""
        return self._is_made_of(value, self.name)

    def _is_made_of(self, value: cst.CSTNode | None, name: str, inside: frozenset[cst.CSTNode] = frozenset()) -> bool:
        """The same, where a class is called `name`, as in a class method of its own."""
        if not isinstance(value, cst.Call):
            return False
        callee = dotted_name(value.func) or ""
        if callee == name:
            return True
        first, _, method = callee.partition(".")
        if first == name:
            return self._is_made_by(method, inside)
        of_class = any(dotted_name(argument.value) == name for argument in value.args)
        return of_class and callee.rsplit(".", 1)[-1] in PARSERS

    def _is_made_by(self, method: str, inside: frozenset[cst.CSTNode]) -> bool:
        """Whether a method of the class makes an instance."""
        for owner in [self.node, *bases(self.tree, self.node)]:
            for binding in self.tree.scopes[owner.body].bindings.get(method, []):
                return isinstance(binding.node, cst.FunctionDef) and self._is_returned_by(binding.node, inside)
        return METHODS.fullmatch(method) is not None

    def _is_returned_by(self, function: cst.FunctionDef, inside: frozenset[cst.CSTNode] = frozenset()) -> bool:
        """Whether a function says that it returns an instance, or does nothing else; `inside` are those in question."""
        if function in inside:
            return True
        if function.returns is not None:
            family = [self.node, *bases(self.tree, self.node)]
            named = annotated_class(function.returns) or ""
            return named.rpartition(".")[2] == "Self" or named in [item.name.value for item in family]
        scope = self.tree.scopes[function.body]
        class_name = first_parameter(scope, or_class=True) or self.name
        values: list[cst.CSTNode | None] = []
        for node in returns_of(function):
            name = node.value.value if isinstance(node.value, cst.Name) else ""
            values += [item.value for item in scope.resolve(name)] if name else [node.value]
        inside |= {function}
        return bool(values) and all(
            self._is_made_of(value, class_name, inside) or self._is_made_of(value, self.name, inside)
            for value in values
        )

    def _may_be_made(self, node: cst.AnnAssign) -> bool:
        """Whether an annotation may be believed: not about `None`, nor about what some call makes of something else."""
        if node.value is None or _names_none(node.annotation):
            return False
        if not isinstance(node.value, cst.Call):
            return not _names_none(node.value)
        functions = [
            binding.node
            for binding in self.tree.scopes[node.value].resolve(dotted_name(node.value.func) or "")
            if isinstance(binding.node, cst.FunctionDef)
        ]
        if functions:
            return all(self._is_returned_by(function) for function in functions)
        return called_name(node.value) != "cast" and self._is_named_in(descendants(node.value))

    def _is_named_in(self, nodes: Iterable[cst.CSTNode]) -> bool:
        return any(isinstance(part, cst.Name) and part.value == self.name for part in nodes)

    @cached_property
    def _is_only_a_type(self) -> bool:
        """Whether Hydra reads the config from YAML, and the class does no more than annotate what comes of it."""
        decorators = [
            dotted_name(item.decorator.func if isinstance(item.decorator, cst.Call) else item.decorator)
            for scope in self.tree.all_scopes
            if isinstance(scope.node, cst.FunctionDef)
            for item in scope.node.decorators
        ]
        return "hydra.main" in decorators and all(
            self._annotates(name) for name, _ in self.tree.names if name.value == self.name
        )

    def _annotates(self, name: cst.Name) -> bool:
        """Whether a name stands in the annotation of a parameter or of what a function returns."""
        around = next((item for item in self.tree.ancestors(name) if isinstance(item, cst.Annotation)), None)
        return around is not None and isinstance(self.tree.parents[around], cst.Param | cst.FunctionDef)


def names_given(tree: Tree, makes: Callable[[Binding], bool]) -> frozenset[str]:
    return frozenset(
        name
        for scope in tree.all_scopes
        for name, bindings in scope.bindings.items()
        if any(makes(binding) for binding in bindings)
    )


def _names_none(node: cst.CSTNode) -> bool:
    return any(last_name(part) in ("Optional", "None") for part in descendants(node))

"""One script as the checks see it: its tree, its loss calls, the energy model's trail, and the modules beside it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import libcst as cst

from energy_patch.findings.neighbours import Neighbours
from energy_patch.follow import Follower, Ref
from energy_patch.locate.callers import argument_for
from energy_patch.locate.locator import loss_calls
from energy_patch.refusal import Refusal
from energy_patch.synchronise import Trail, follow_model
from energy_patch.syntax.source import Source
from energy_patch.syntax.tree import Scope, Tree, all_parameters, children, dotted_name
from energy_patch.values import Values

# Names and environment variables by which a script shows that it runs as several processes.
RANKS = frozenset(
    {"torch.distributed", "distributed", "init_process_group", "DistributedDataParallel", "PartialState", "Accelerator"}
)
RANK_VARIABLES = re.compile(r"\b(LOCAL_RANK|RANK|WORLD_SIZE)\b")
ONE_RANK = re.compile(
    r"main_process|is_master|is_(main|first)\b|rank_?zero|rank\s*==\s*0|process_index\s*==\s*0|not\s+\w*rank\b"
)


@dataclass(frozen=True)
class Place:
    """One more line that a finding is about."""

    line: int
    what: str


@dataclass(frozen=True)
class Finding:
    """Something proven from the text: what it is, why it matters, and what mends it."""

    name: str
    path: Path
    line: int
    title: str
    why: str
    mend: str
    places: tuple[Place, ...] = ()


class Script:
    """What the checks share; `refusal` says why there is no loss call, or why its model cannot be followed.

    Raises:
        Refusal: `unreadable`, where the script cannot be parsed.
    """

    def __init__(self, source: Source, gpus: int, batch_size: int) -> None:
        self.source = source
        self.path = source.path
        self.gpus = gpus
        self.batch_size = batch_size
        self.tree = Tree(source)
        self.values = Values(self.tree)
        self.follower = Follower(self.tree, self.values)
        self.neighbours = Neighbours(self.tree)
        self.loss: list[tuple[cst.Call, Scope]] = []
        self.model: Trail | None = None
        self.refusal: Refusal | None = None
        try:
            self.loss = loss_calls(self.tree)
            self.model = follow_model(self.tree, self.values, self.loss) if self.loss else None
        except Refusal as refusal:
            self.refusal = refusal

    @cached_property
    def has_ranks(self) -> bool:
        """Whether anything in the script's code speaks of several processes."""
        names = {node.value for node, _ in self.tree.names} | {node.attr.value for node, _ in self.tree.attributes}
        for node in self.tree.scopes:
            if isinstance(node, cst.Import | cst.ImportFrom) and not isinstance(node.names, cst.ImportStar):
                names |= {dotted_name(alias.name) or "" for alias in node.names}
            elif isinstance(node, cst.SimpleString) and RANK_VARIABLES.fullmatch(node.value.strip("\"'")):
                return True
        return bool(names & RANKS)

    # --- functions of the file --------------------------------------------------------------------------------

    @cached_property
    def functions(self) -> list[cst.FunctionDef]:
        return [node for node in self.tree.scopes if isinstance(node, cst.FunctionDef)]

    @cached_property
    def callees(self) -> dict[cst.Call, cst.FunctionDef]:
        """Which function of this file a call can only mean; a class stands for its `__init__`."""
        found: dict[cst.Call, cst.FunctionDef] = {}
        for function in self.functions:
            found.update((call, function) for call, _ in self.values.callers.uses_of_function(function)[0])
        for call, scope in self.tree.calls:
            definition = self.class_of(call, scope)
            for statement in definition.body.body if definition is not None else ():
                if isinstance(statement, cst.FunctionDef) and statement.name.value == "__init__":
                    found[call] = statement
        return found

    def class_of(self, call: cst.Call, scope: Scope) -> cst.ClassDef | None:
        """The class of this file that a call makes an instance of."""
        bindings = scope.resolve(call.func.value) if isinstance(call.func, cst.Name) else []
        node = bindings[0].node if len(bindings) == 1 else None
        return node if isinstance(node, cst.ClassDef) else None

    def inner_scope(self, function: cst.FunctionDef) -> Scope:
        return self.tree.scopes[function.body.body[0]]

    def parameter(self, call: cst.Call, argument: cst.Arg) -> Ref | None:
        """The parameter, in a function of this file, that an argument becomes."""
        function = self.callees.get(call)
        if function is None or argument.star:
            return None
        own = function.params
        if argument.keyword is not None:
            names = [item.name.value for item in all_parameters(own) if not item.star]
            return Ref(self.inner_scope(function), argument.keyword.value) if argument.keyword.value in names else None
        names = [item.name.value for item in [*own.posonly_params, *own.params]]
        is_method = self.tree.scopes[function].is_class
        names = names[1:] if is_method else names
        before = call.args[: call.args.index(argument)]
        if any(item.star or item.keyword is not None for item in before) or len(before) >= len(names):
            return None
        return Ref(self.inner_scope(function), names[len(before)])

    def passed(self, function: cst.FunctionDef, call: cst.Call, name: str) -> cst.BaseExpression | None:
        return argument_for(function, call, name, is_method=self.tree.scopes[function].is_class)

    def function_around(self, node: cst.CSTNode) -> cst.FunctionDef | None:
        around = self.tree.scopes[node].function().node
        return around if isinstance(around, cst.FunctionDef) else None

    def name_around(self, node: cst.CSTNode) -> str:
        function = self.function_around(node)
        return function.name.value if function is not None else "the module"

    # --- small questions --------------------------------------------------------------------------------------

    def line(self, node: cst.CSTNode) -> int:
        return self.tree.line(node)

    def seen(self, node: cst.CSTNode) -> str:
        """The line of source that a node begins on."""
        return self.source.line_text(self.tree.line(node)).strip()

    def on_one_rank(self, node: cst.CSTNode) -> bool:
        """Whether a node runs on one rank only, by the conditions around it in its own function."""
        child = node
        for ancestor in self.tree.ancestors(node):
            if isinstance(ancestor, cst.FunctionDef):
                return False
            if (
                isinstance(ancestor, cst.If)
                and child is ancestor.body
                and ONE_RANK.search(self.tree.text(ancestor.test))
            ):
                return True
            child = ancestor
        return False

    def without_gradients(self, node: cst.CSTNode) -> bool:
        """Whether a node stands under anything that may disable gradients."""
        return any(re.search(r"grad|inference", name) for name in self.values.ranks.contexts(node))

    def finding(
        self, name: str, node: cst.CSTNode | int, title: str, why: str, mend: str, places: tuple[Place, ...] = ()
    ) -> Finding:
        line = node if isinstance(node, int) else self.line(node)
        return Finding(name, self.path, line, title, why, mend, places)


def own_nodes(function: cst.FunctionDef) -> Iterator[cst.CSTNode]:
    """The nodes of a function's own body, functions and classes in it left out."""
    waiting: list[cst.CSTNode] = [function.body]
    while waiting:
        node = waiting.pop(0)
        yield node
        waiting = [
            *(child for child in children(node) if not isinstance(child, cst.FunctionDef | cst.ClassDef | cst.Lambda)),
            *waiting,
        ]


def returns_of(function: cst.FunctionDef) -> list[cst.Return]:
    return [node for node in own_nodes(function) if isinstance(node, cst.Return)]


def is_none(node: cst.CSTNode | None) -> bool:
    return isinstance(node, cst.Name) and node.value == "None"

"""One script under study, as the checks see it: its program, the loss's calls, and the energy model."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import libcst as cst

from energy_patch.analysis.aliases import Aliases, Origin, Ref
from energy_patch.analysis.calls import CallGraph
from energy_patch.analysis.constants import Constants
from energy_patch.analysis.files import CANNOT_BE_READ, ScopedCall
from energy_patch.analysis.holders import Holders
from energy_patch.analysis.program import Program
from energy_patch.analysis.settings import Settings
from energy_patch.analysis.uses import Uses
from energy_patch.analysis.vocabulary import STAYS
from energy_patch.locate.facts import ORIGINAL_LOSS
from energy_patch.locate.locator import top_level_name
from energy_patch.locate.loss_calls import loss_calls
from energy_patch.locate.reached import follow_imports
from energy_patch.refusal import Refusal
from energy_patch.strategies.base import Strategy, Value
from energy_patch.syntax.nodes import dotted_name, last_name
from energy_patch.syntax.scopes import Scope
from energy_patch.syntax.source import Source, read_source
from energy_patch.syntax.tree import Tree

# Names and environment variables by which a script shows that it runs as several processes.
RANKS = frozenset(
    {"torch.distributed", "distributed", "init_process_group", "DistributedDataParallel", "PartialState", "Accelerator"}
    | {"deepspeed", "lightning", "pytorch_lightning", "LightningModule", "Fabric", "Trainer", "TrainingArguments"}
)
RANK_VARIABLES = re.compile(r"LOCAL_RANK|RANK|WORLD_SIZE")
ENERGY_CLASS = re.compile(r"Energy(?!\w*(Loss|Config|Optim|Data|Trainer))\w*|EBM\w*")


@dataclass(frozen=True)
class Place:
    """A line, and what stands there; `path`, from the script's folder, where it is in another file."""

    line: int
    what: str
    path: str | None = None


@dataclass(frozen=True)
class Patch:
    """The patch that a script bears: what it takes care of is no finding any more."""

    strategy: Strategy | None
    options: dict[str, Value] = field(default_factory=dict)

    @property
    def replaces_loss(self) -> bool:
        return self.strategy is None or bool(self.strategy.function)

    @property
    def synchronizes(self) -> bool:
        return "no_sync" not in self.options


@dataclass(frozen=True)
class Model:
    """The energy model: all its names, the expressions that make it, and what becomes of it."""

    refs: tuple[Ref, ...]
    made: tuple[Origin, ...]
    uses: Uses


class Study:
    """What the checks share.

    Raises:
        Refusal: `unreadable`, where the script cannot be parsed.
    """

    def __init__(
        self, source: Source, gpus: int, patch: Patch | None = None, read: Callable[[Path], Source] = read_source
    ) -> None:
        self.source = source
        self.path = source.path
        self.gpus = gpus
        self.batch_size = 1
        self.patch = patch
        self.program = Program(source, read)
        following = follow_imports(source, read)
        for module in following.modules:
            if ORIGINAL_LOSS in module.source.text:
                self.program.reach(module.source.path)
        self.graph = CallGraph(self.program)
        self.aliases = Aliases(self.graph)
        self.settings = Settings(self.program)
        self.constants = Constants(self.aliases, self.settings)
        self.refusal: Refusal | None = None
        self.loss = [*self._loss_calls(self.program.script, following.used)]
        self.elsewhere = [  # calls in other files: those that `apply` patches, where the script has none of its own
            call for tree in self.program.trees[1:] for call in self._loss_calls(tree, following.used)
        ]
        if not self.loss:
            self.loss, self.elsewhere = self.elsewhere, []
        self._unread = following.unread

    def _loss_calls(self, tree: Tree, used: frozenset[str]) -> Iterator[ScopedCall]:
        """The loss's calls in one file; in another than the script only those in what the script uses."""
        if ORIGINAL_LOSS not in tree.source.text:
            return
        try:
            found = loss_calls(tree)
        except Refusal as refusal:
            if tree is self.program.script:
                self.refusal = refusal
            return
        for call, scope in found:
            if tree is self.program.script or top_level_name(tree, call) in {None, *used}:
                yield call, scope

    @property
    def left_out(self) -> dict[Path, str]:
        """Files that the script imports and that were not read, and why."""
        return {**dict.fromkeys(self._unread, CANNOT_BE_READ), **self.program.left_out}

    @cached_property
    def loss_names(self) -> list[cst.Name | cst.Attribute]:
        """Where the loss is named in any other way than by its import or definition."""
        found: list[cst.Name | cst.Attribute] = []
        found += [node for node, scope in self.program.names if self._means_loss(node, scope)]
        found += [node for node, _ in self.program.attributes if node.attr.value == ORIGINAL_LOSS]
        return [node for node in found if not isinstance(self.program.parents.get(node), cst.FunctionDef | cst.AsName)]

    @cached_property
    def loss_strings(self) -> list[cst.SimpleString]:
        """Strings that are the loss's name: `getattr(module, "...")`."""
        strings = [node for node in self.program.scopes if isinstance(node, cst.SimpleString)]
        return [node for node in strings if node.value.strip("\"'") == ORIGINAL_LOSS]

    def _means_loss(self, node: cst.Name, scope: Scope) -> bool:
        bindings = scope.resolve(node.value)
        if not bindings:
            return node.value == ORIGINAL_LOSS and isinstance(self.program.parents[node], cst.Call)
        return any(
            (isinstance(item.node, cst.ImportAlias) and dotted_name(item.node.name) == ORIGINAL_LOSS)
            or (isinstance(item.node, cst.FunctionDef) and node.value == ORIGINAL_LOSS)
            for item in bindings
        )

    @cached_property
    def held(self) -> list[cst.Call]:
        """Calls of what may hold the loss: `losses[name](...)`, `self.loss(...)`."""
        got = [
            call
            for node in self.loss_strings
            if isinstance(call := self.program.parents[self.program.parents[node]], cst.Call)
            and last_name(call.func) == "getattr"
        ]
        return Holders(self.aliases, [*self.loss_names, *got]).calls

    # --- the energy model -------------------------------------------------------------------------------------

    @cached_property
    def model(self) -> Model | None:
        """The model that the loss is given, or that is built from a class of that name; None if there is none."""
        start = [ref for call, scope in self.loss if (ref := self._model_argument(call, scope)) is not None]
        refs, made = self.aliases.upward(start)
        if not made:
            refs, made = self.aliases.upward([*start, *self._named_models()])
        if not refs:
            return None
        return Model(tuple(refs), tuple(made), Uses(self.aliases, refs, [*self.held, *(call for call, _ in self.loss)]))

    @cached_property
    def model_classes(self) -> list[cst.ClassDef]:
        """The classes in sight that the energy model is made of."""
        bases = [base_of_build(item.node) for item in (self.model.made if self.model is not None else ())]
        found = [self.graph.made.get(base) for base in bases if isinstance(base, cst.Call)]
        return [node for node in dict.fromkeys(found) if node is not None]

    def _model_argument(self, call: cst.Call, scope: Scope) -> Ref | None:
        argument = argument_of(call, "energy_model", 0)
        return self.aliases.ref(argument, scope) if argument is not None else None

    def _named_models(self) -> Iterator[Ref]:
        """Names that are given a new instance of an energy model's class."""
        for node, scope in [*self.program.scopes.items()]:
            if not isinstance(node, cst.Assign | cst.AnnAssign) or node.value is None:
                continue
            base = base_of_build(node.value)
            if not isinstance(base, cst.Call) or not ENERGY_CLASS.fullmatch(self._imported_name(base.func, scope)):
                continue
            for target in [item.target for item in node.targets] if isinstance(node, cst.Assign) else [node.target]:
                if (ref := self.aliases.ref(target, scope)) is not None:
                    yield ref

    def _imported_name(self, callee: cst.BaseExpression, scope: Scope) -> str:
        """What a callee is called where it is defined."""
        bindings = scope.resolve(callee.value) if isinstance(callee, cst.Name) else []
        node = bindings[0].node if len(bindings) == 1 else None
        return last_name(node.name if isinstance(node, cst.ImportAlias) else callee)

    @cached_property
    def has_ranks(self) -> bool:
        """Whether anything in the code speaks of several processes."""
        program = self.program
        names = {node.value for node, _ in program.names} | {node.attr.value for node, _ in program.attributes}
        for node in program.scopes:
            if isinstance(node, cst.Import | cst.ImportFrom) and not isinstance(node.names, cst.ImportStar):
                names |= {dotted_name(alias.name) or "" for alias in node.names}
            elif isinstance(node, cst.SimpleString) and RANK_VARIABLES.fullmatch(node.value.strip("\"'")):
                return True
        return bool(names & RANKS)

    # --- small questions --------------------------------------------------------------------------------------

    def line(self, node: cst.CSTNode) -> int:
        return self.program.line(node)

    def path_of(self, node: cst.CSTNode) -> Path:
        """The file of a node; the script's own as it was named."""
        tree = self.program.tree(node)
        return self.path if tree is self.program.script else tree.source.path

    def place(self, node: cst.CSTNode, what: str) -> Place:
        path = self.path_of(node)
        return Place(self.line(node), what, None if path == self.path else self.name_of(path))

    def name_of(self, path: Path) -> str:
        """A file's path from the script's folder."""
        return path.relative_to(self.path.resolve().parent).as_posix()

    def name_around(self, node: cst.CSTNode) -> str:
        function = self.program.function_around(node)
        return function.name.value if function is not None else "the module"


def argument_of(call: cst.Call, name: str, place: int) -> cst.BaseExpression | None:
    """What a call passes under a name, or in a place."""
    for argument in call.args:
        if argument.keyword is not None and argument.keyword.value == name:
            return argument.value
    before = call.args[: place + 1]
    is_plain = len(before) == place + 1 and all(item.keyword is None and not item.star for item in before)
    return before[place].value if is_plain else None


def base_of_build(value: cst.BaseExpression) -> cst.BaseExpression:
    """`EnergyModel(...)` in `EnergyModel(...).to(device).train()`."""
    while isinstance(value, cst.Call) and isinstance(value.func, cst.Attribute) and value.func.attr.value in STAYS:
        value = value.func.value
    return value

"""Find where the energy model is complete, and where its gradients are averaged before they are first used."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import libcst as cst

from energy_patch.follow import BY_HAND, Follower, Ref
from energy_patch.locate.facts import LinePoint
from energy_patch.refusal import Reason, Refusal
from energy_patch.syntax.layout import STATEMENTS, point_after, point_before, statement_of
from energy_patch.syntax.tree import Scope, Tree, descendants, dotted_name, last_name
from energy_patch.values import Values

UNSUPPORTED = {
    "FSDP": "FSDP",
    "FullyShardedDataParallel": "FSDP",
    "fully_shard": "FSDP",
    "initialize": "DeepSpeed",
    "prepare": "accelerator.prepare",
    "prepare_model": "accelerator.prepare",
}
PREPARING_METHODS = frozenset(
    {
        "to",
        "cuda",
        "cpu",
        "float",
        "half",
        "bfloat16",
        "double",
        "type",
        "apply",
        "load_state_dict",
        "requires_grad_",
    }
    | {"reset_parameters", "init_weights", "initialize", "compile"}
)
CLIP_NAME = re.compile(r"clip|unscale|(?:grad|total)_?norm")
SETUP = frozenset(
    {"init_process_group", "init_distributed", "initialize_distributed", "setup_distributed"}
    | {"init_distributed_mode", "setup_ddp", "ddp_setup", "Accelerator", "PartialState"}
)
HARMLESS = frozenset({"print", "info", "log", "debug", "zero_grad", "synchronize", "update", "item"})
LISTS = frozenset({"list", "tuple", "filter", "chain", "sorted", "set"})


@dataclass(frozen=True)
class SyncPoint:
    """Where a line that keeps the ranks one model goes, what the model is called there, and whether it may be None."""

    at: LinePoint
    model: str
    seen: str
    may_be_none: bool = False


@dataclass(frozen=True)
class Problem:
    """Why something could not be found: raised as a refusal only by a plan that needs it."""

    reason: Reason
    message: str
    line: int | None

    def refuse(self) -> Refusal:
        return Refusal(self.reason, self.message, line=self.line)


@dataclass(frozen=True)
class Synchronisation:
    """Where the model is complete, and where its gradients are about to be used; or why that is not known."""

    broadcasts: tuple[SyncPoint, ...] | Problem
    averages: tuple[SyncPoint, ...] | Problem
    notes: tuple[str, ...] = ()


def find_synchronisation(
    tree: Tree,
    values: Values,
    found: list[tuple[cst.Call, Scope]],
    broadcast_after: tuple[int, ...],
    average_before: tuple[int, ...],
) -> Synchronisation:
    """Where to broadcast and where to average; lines given by hand replace the search."""
    follower = Follower(tree, values)
    try:
        models = follower.models(found)
    except Refusal as refusal:
        problem = Problem(refusal.reason, refusal.message, refusal.line)
        return Synchronisation(problem, problem)
    finder = _Finder(tree, values, follower, models, found)
    return Synchronisation(
        broadcasts=_or_problem(lambda: finder.broadcasts(broadcast_after)),
        averages=_or_problem(lambda: finder.averages(average_before)),
        notes=tuple(finder.notes),
    )


def _or_problem(find: Callable[[], Iterable[SyncPoint]]) -> tuple[SyncPoint, ...] | Problem:
    try:
        return tuple(find())
    except Refusal as refusal:
        return Problem(refusal.reason, refusal.message, refusal.line)


@dataclass(frozen=True)
class Trail:
    """Every name of one value in a file, of the optimisers that hold its parameters, and of lists of these."""

    follower: Follower
    refs: tuple[Ref, ...]
    optimisers: tuple[Ref, ...]
    lists: frozenset[Ref]
    builds: tuple[tuple[cst.CSTNode, Scope], ...]
    steps: tuple[cst.Call, ...]


def follow_model(tree: Tree, values: Values, found: list[tuple[cst.Call, Scope]]) -> Trail:
    """The trail of the model that the loss calls are given.

    Raises:
        Refusal: the model cannot be followed.
    """
    follower = Follower(tree, values)
    return _trail(tree, values, follower, follower.models(found))


def follow_value(tree: Tree, values: Values, refs: Iterable[Ref]) -> Trail:
    """The trail of any module, from some names of it.

    Raises:
        Refusal: its optimiser's step takes a closure.
    """
    follower = Follower(tree, values)
    return _trail(tree, values, follower, follower.follow(refs))


def _trail(tree: Tree, values: Values, follower: Follower, refs: list[Ref]) -> Trail:
    finder = _Finder(tree, values, follower, refs)
    return Trail(
        follower=follower,
        refs=tuple(finder.models),
        optimisers=tuple(finder.optimisers),
        lists=frozenset(finder.lists),
        builds=tuple(finder._builds()),
        steps=tuple(finder._steps(finder.optimisers)),
    )


class _Finder:
    """The sync points of one followed model."""

    def __init__(
        self,
        tree: Tree,
        values: Values,
        follower: Follower,
        models: list[Ref],
        found: list[tuple[cst.Call, Scope]] | None = None,
    ) -> None:
        self.tree = tree
        self.values = values
        self.follower = follower
        self.models = models
        self.found = found or []
        self.notes: list[str] = []

    # --- broadcast --------------------------------------------------------------------------------------------

    def broadcasts(self, by_hand: tuple[int, ...]) -> Iterator[SyncPoint]:
        self._refuse_unsupported()
        if by_hand:
            for line in by_hand:
                statement = self._statement_at(line, "--broadcast-after")
                self._check_by_hand(statement, "--broadcast-after", line)
                yield self._point(point_after(self.tree, statement), statement, "--broadcast-after", line)
            return
        builds = self._builds()
        if not builds:
            message = f"where the energy model is built was not found in this file; {BY_HAND}"
            raise Refusal("not-found", message, line=self._some_line())
        for scope in dict.fromkeys(scope for _, scope in builds):
            own = [self._lifted(statement) for statement, at in builds if at is scope]
            statement = self._last_preparation(own, scope)
            lines = self.values.ranks.uncertain_conditions(statement, through_callers=False)
            if lines:
                message = (
                    "the energy model is built under a condition that ranks may decide differently; name a line that "
                    "every rank reaches with --broadcast-after LINE, or pass --no-sync"
                )
                raise Refusal("unsupported", message, line=lines[0])
            text = self.tree.source.line_text(self.tree.line(statement)).strip()
            yield self._point(point_after(self.tree, statement), statement, text, self.tree.line(statement))

    def _refuse_unsupported(self) -> None:
        building = {
            node
            for ref in self.models
            for binding, _ in self.follower.bindings(ref)
            if binding.value is not None
            for node in descendants(binding.value)
        }
        for call, scope in self.tree.calls:
            wrapper = UNSUPPORTED.get(last_name(call.func))
            if wrapper is None or not (call in building or any(self._is_model(arg.value, scope) for arg in call.args)):
                continue
            callee = dotted_name(call.func) or ""
            if wrapper == "DeepSpeed" and not callee.startswith("deepspeed."):
                continue
            message = (
                f"the energy model is handed to {callee}; {wrapper} shards or wraps its parameters, which "
                "energy-patch does not support; keep the energy model outside it"
            )
            raise Refusal("unsupported", message, line=self.tree.line(call))

    def _is_model(self, node: cst.CSTNode, scope: Scope) -> bool:
        return isinstance(node, cst.BaseExpression) and self.follower.ref(node, scope) in self.models

    def _builds(self) -> list[tuple[cst.CSTNode, Scope]]:
        """The statements that give the model its value, in the order of the file."""
        builds: dict[cst.CSTNode, Scope] = {}
        for ref in self.models:
            for binding, _ in self.follower.bindings(ref):
                value = binding.value
                if binding.kind != "assign" or value is None or dotted_name(value) is not None:
                    continue
                statement = statement_of(self.tree, binding.node)
                builds[statement] = self.tree.scopes[statement]
        return sorted(builds.items(), key=lambda item: self.tree.line(item[0]))

    def _lifted(self, build: cst.CSTNode) -> cst.CSTNode:
        """The whole statement around a build, where a line can follow before anything else happens.

        Raises:
            Refusal: `unsupported`, where something else happens in the same statement.
        """
        statement = self._in_block(build)
        is_simple = isinstance(build, cst.SimpleStatementLine | cst.SimpleStatementSuite)
        parts = [*build.body] if is_simple else []  # type: ignore[attr-defined]
        first = next((place for place, part in enumerate(parts) if self._binds_model(part)), None)
        is_last = first is not None and not any(self._calls(part) for part in parts[first + 1 :])
        if statement is None or not is_last:
            message = (
                "the energy model is built in the middle of a statement, and nothing can be put right behind it; give "
                f"the assignment a line of its own, or {BY_HAND}"
            )
            raise Refusal("unsupported", message, line=self.tree.line(build))
        return statement

    def _binds_model(self, part: cst.CSTNode) -> bool:
        bound = [binding.node for ref in self.models for binding, _ in self.follower.bindings(ref)]
        return any(node in bound for node in descendants(part))

    def _calls(self, part: cst.CSTNode) -> list[cst.Call]:
        """The calls in a part of a line that may compute something."""
        calls = [node for node in descendants(part) if isinstance(node, cst.Call)]
        names = [(call, last_name(call.func)) for call in calls]
        return [
            call
            for call, name in names
            if name not in HARMLESS | PREPARING_METHODS and not CLIP_NAME.search(name.lower())
        ]

    def _in_block(self, statement: cst.CSTNode) -> cst.CSTNode | None:
        """The statement of a block that holds a one-line suite or an `elif`; None if a function or class is between."""
        while not _is_block(self.tree.parents[statement]):
            statement = self.tree.parents[statement]
            if isinstance(statement, cst.FunctionDef | cst.ClassDef | cst.Lambda):
                return None
        return statement

    def _last_preparation(self, builds: list[cst.CSTNode], scope: Scope) -> cst.CSTNode:
        """The statement after which the model is complete, in the block that holds all of its builds."""
        first = self.tree.line(builds[0])
        used = self._first_use_line(scope, first)
        optimiser = min((line for line in (self._optimiser_line(scope), used) if line is not None), default=None)
        before = [build for build in builds if optimiser is None or self.tree.line(build) < optimiser]
        if not before:
            message = f"the energy model is rebuilt after its optimiser is made on line {optimiser}; {BY_HAND}"
            raise Refusal("ambiguous", message, line=first)
        block = self._common_block(before)
        preparations = [*before]
        for call, at in self.tree.calls:
            if at.function() is not scope.function():
                continue
            line = self.tree.line(call)
            if line > first and self._sets_up_ranks(call, at):
                if used is not None and line > used and call in self._training_calls:
                    self._refuse_late_setup(line)
                preparations.append(statement_of(self.tree, call))
                continue
            if not self._prepares(call, at):
                continue
            if optimiser is not None and line > optimiser:
                if last_name(call.func) in ("apply", "reset_parameters", "init_weights"):
                    message = f"the energy model is initialised again after its optimiser is made; {BY_HAND}"
                    raise Refusal("ambiguous", message, line=line)
                # Weights that are loaded later are copied in place, so the broadcast may follow the optimiser.
                if last_name(call.func) != "load_state_dict" or (used is not None and line > used):
                    continue
            preparations.append(statement_of(self.tree, call))
        self._check_setup(scope)
        inside = [item for item in (self._child_of(block, statement) for statement in preparations) if item]
        return max(inside, key=self.tree.last_line)

    def _sets_up_ranks(self, call: cst.Call, at: Scope) -> bool:
        function = self.follower.function(call, at)
        return last_name(call.func) in SETUP or (function is not None and function in self._setting_up)

    def _refuse_late_setup(self, line: int) -> None:
        message = (
            "the process group is set up here, after the energy model is built and in use, so there would be nobody "
            f"to broadcast to; set it up first, or {BY_HAND}"
        )
        raise Refusal("ambiguous", message, line=line)

    def _check_setup(self, scope: Scope) -> None:
        """Refuse a process group that is set up by what the model is handed to."""
        around = scope.function().node
        for call, at in self.tree.calls:
            function = at.function().node
            if last_name(call.func) not in SETUP or function not in self._training or function is around:
                continue
            if isinstance(around, cst.FunctionDef) and function in self._leading_to([around.body]):
                continue
            self._refuse_late_setup(self.tree.line(call))

    def _prepares(self, call: cst.Call, scope: Scope) -> bool:
        """`model.to(...)`, `model.load_state_dict(...)`, or a bare call that is handed the model to change it."""
        if isinstance(call.func, cst.Attribute) and call.func.attr.value in PREPARING_METHODS:
            return self._is_model(call.func.value, scope)
        is_bare = isinstance(self.tree.parents[call], cst.Expr)
        inspects = last_name(call.func) in ("print", "len", "count_parameters", "watch", "summary", "info")
        if not is_bare or inspects or call in self._training_calls:
            return False
        return any(self._is_model(argument.value, scope) for argument in call.args[:1])

    def _common_block(self, statements: list[cst.CSTNode]) -> cst.CSTNode:
        chains = [[node for node in self.tree.ancestors(item) if _is_block(node)] for item in statements]
        return next(block for block in chains[0] if all(block in chain for chain in chains))

    def _child_of(self, block: cst.CSTNode, statement: cst.CSTNode) -> cst.CSTNode | None:
        """The statement directly in a block that holds a statement; None if that one lies outside."""
        if self.tree.parents[statement] is block:
            return statement
        path = [statement, *self.tree.ancestors(statement)]
        return path[path.index(block) - 1] if block in path else None

    def _optimiser_line(self, scope: Scope) -> int | None:
        lines = [
            self.tree.line(binding.node)
            for ref in self.optimisers
            for binding, at in self.follower.bindings(ref)
            if binding.kind == "assign" and isinstance(binding.value, cst.Call) and at.function() is scope.function()
        ]
        return min(lines, default=None)

    # --- which functions train the model ----------------------------------------------------------------------

    @cached_property
    def _training(self) -> frozenset[cst.CSTNode]:
        """The functions that compute the loss, make the optimiser or take its step, or call one that does."""
        seeds: list[cst.CSTNode] = [call for call, _ in self.found]
        seeds += [binding.node for ref in self.optimisers for binding, _ in self.follower.bindings(ref)]
        seeds += [call for call, scope in self.tree.calls if self._is_step(call, scope)]
        return self._leading_to(seeds)

    @cached_property
    def _setting_up(self) -> frozenset[cst.CSTNode]:
        calls = [call for call, _ in self.tree.calls if last_name(call.func) in SETUP]
        return self._leading_to(calls) - self._training

    def _leading_to(self, seeds: Iterable[cst.CSTNode]) -> frozenset[cst.CSTNode]:
        """The functions around some nodes, and all that call these, directly or through others."""
        found: set[cst.CSTNode] = set()
        waiting = [node for seed in seeds if (node := self._function_around(seed)) is not None]
        while waiting:
            function = waiting.pop()
            if function not in found:
                found.add(function)
                waiting += [
                    node
                    for call, _ in self._callers.get(function, ())
                    if (node := self._function_around(call)) is not None
                ]
        return frozenset(found)

    def _function_around(self, node: cst.CSTNode) -> cst.FunctionDef | None:
        return next((item for item in self.tree.ancestors(node) if isinstance(item, cst.FunctionDef)), None)

    @cached_property
    def _callers(self) -> dict[cst.CSTNode, list[tuple[cst.Call, Scope]]]:
        """For each function the calls that may mean it; a method is known by its name alone."""
        methods: dict[str, list[cst.FunctionDef]] = {}
        for node, scope in self.tree.scopes.items():
            if isinstance(node, cst.FunctionDef) and scope.is_class:
                methods.setdefault(node.name.value, []).append(node)
        found: dict[cst.CSTNode, list[tuple[cst.Call, Scope]]] = {}
        for call, at in self.tree.calls:
            for function in self._called(call, at, methods):
                found.setdefault(function, []).append((call, at))
        return found

    def _called(
        self, call: cst.Call, at: Scope, methods: dict[str, list[cst.FunctionDef]]
    ) -> Iterator[cst.FunctionDef]:
        if isinstance(call.func, cst.Attribute):
            yield from methods.get(call.func.attr.value, ())
            return
        for binding in at.resolve(dotted_name(call.func) or ""):
            if isinstance(binding.node, cst.FunctionDef):
                yield binding.node
            elif isinstance(binding.node, cst.ClassDef):
                yield from (item for item in methods.get("__init__", ()) if item in binding.node.body.body)

    @cached_property
    def _training_calls(self) -> frozenset[cst.CSTNode]:
        return self._calls_of(self._training)

    @cached_property
    def _clipping_calls(self) -> frozenset[cst.CSTNode]:
        clips = [call for call, scope in self.tree.calls if self._is_clip(call, scope)]
        return frozenset(clips) | self._calls_of(self._leading_to(clips))

    @cached_property
    def _backward_calls(self) -> frozenset[cst.CSTNode]:
        calls = [call for call, _ in self.tree.calls if last_name(call.func).endswith("backward")]
        return frozenset(calls) | self._calls_of(self._leading_to(calls))

    def _calls_of(self, functions: frozenset[cst.CSTNode]) -> frozenset[cst.CSTNode]:
        return frozenset(call for function in functions for call, _ in self._callers.get(function, ()))

    def _first_use_line(self, scope: Scope, after: int) -> int | None:
        """The first line below the build, in the same function, that trains the model or hands it to what does."""
        losses = {call for call, _ in self.found}
        lines = [
            self.tree.line(call)
            for call, at in self.tree.calls
            if at.function() is scope.function()
            and (call in losses or call in self._training_calls or self._is_step(call, at))
            and self.tree.line(call) > after
        ]
        return min(lines, default=None)

    # --- average ----------------------------------------------------------------------------------------------

    def averages(self, by_hand: tuple[int, ...]) -> Iterator[SyncPoint]:
        self._refuse_unsupported()
        if by_hand:
            for line in by_hand:
                statement = self._statement_at(line, "--average-before")
                self._check_by_hand(statement, "--average-before", line)
                self._check_step_follows(statement, line)
                yield self._point(point_before(self.tree, statement), statement, "--average-before", line)
            return
        steps = list(self._steps(self.optimisers))
        if not steps:
            message = f"the step of the optimiser that holds the energy model's parameters was not found; {BY_HAND}"
            raise Refusal("not-found", message, line=self._some_line())
        places: dict[int, tuple[SyncPoint, cst.CSTNode]] = {}
        for call in steps:
            self._add_average(places, call, "step")
        for call, scope in self.tree.calls:
            if self._is_clip(call, scope) and not self._is_covered(call, places, frozenset()):
                self._add_average(places, call, "clip")
        for offset in sorted(places):
            yield places[offset][0]

    def _add_average(self, places: dict[int, tuple[SyncPoint, cst.CSTNode]], call: cst.Call, what: str) -> None:
        statement = self._first_read(self._before(call, what))
        lines = self.values.ranks.uncertain_conditions(statement, through_callers=True)
        if lines:
            seen = self.tree.source.line_text(lines[0]).strip()
            message = (
                f"the energy optimiser's {what} on line {self.tree.line(call)} runs under a condition that ranks may "
                f"decide differently (`{seen}`), and then averaging would hang; make the condition one of config "
                "and counters, name a line that every rank reaches with --average-before LINE, or pass --no-sync"
            )
            raise Refusal("unsupported", message, line=lines[0])
        point = point_before(self.tree, statement)
        text = self.tree.source.line_text(self.tree.line(statement)).strip()
        found = self._point(point, statement, text, self.tree.line(statement))
        places.setdefault(point.offset, (found, statement))

    def _before(self, call: cst.Call, what: str) -> cst.CSTNode:
        """The statement before which gradients can be averaged for a step or a clip.

        Raises:
            Refusal: `unsupported`, where that statement also computes them, or does not run when they are used.
        """
        inner = statement_of(self.tree, call)
        path = [call, *self.tree.ancestors(call)]
        path = path[: path.index(inner)]
        statement = self._in_block(inner)
        parts = [*inner.body] if isinstance(inner, cst.SimpleStatementLine | cst.SimpleStatementSuite) else []
        earlier = parts[: next((place for place, part in enumerate(parts) if part in path), 0)]
        is_deferred = statement is None or any(isinstance(node, cst.Lambda) for node in path)
        if statement is not None and not is_deferred:
            start = self.tree.span(call)[0]
            computes = [
                node
                for node in descendants(statement)
                if isinstance(node, cst.Call)
                and node in self._backward_calls
                and self.tree.span(node)[0] < start
                and node not in path
            ]
            if not computes and not any(self._calls(part) for part in earlier):
                return statement
        message = (
            f"the energy optimiser's {what} shares its line with other statements or stands in a one-line function, so "
            "no line can be put right before it; give it a line of its own"
        )
        raise Refusal("unsupported", message, line=self.tree.line(call))

    def _is_covered(
        self,
        call: cst.Call,
        places: dict[int, tuple[SyncPoint, cst.CSTNode]],
        seen: frozenset[cst.CSTNode],
    ) -> bool:
        """Whether gradients have been averaged above a call, in its function or in every one that calls it."""
        for _, statement in places.values():
            inside = statement in self.tree.ancestors(call)
            if inside or self.values.order.dominates(statement, call):
                return True
        function = self._function_around(call)
        if function is None or function in seen:
            return False
        callers = self._callers.get(function, [])
        return bool(callers) and all(self._is_covered(item, places, seen | {function}) for item, _ in callers)

    @cached_property
    def optimisers(self) -> list[Ref]:
        """The names on which a step is taken and that were made from the model's parameters."""
        made: list[Ref] = []
        for node, scope in self.follower.assignments:
            if not isinstance(node.value, cst.Call) or not self._is_made_from_model(node.value, scope):
                continue
            for target in node.targets if isinstance(node, cst.Assign) else [node]:
                ref = self.follower.ref(target.target, scope)
                if ref is not None and ("optim" in ref.name.lower() or _is_optimiser(node.value)):
                    made.append(ref)
        for call, scope in self.tree.calls:
            if isinstance(call.func, cst.Attribute) and call.func.attr.value == "add_param_group":
                ref = self.follower.ref(call.func.value, scope)
                if ref is not None and any(self._mentions_parameters(item, scope, self.lists) for item in call.args):
                    made.append(ref)
        return self.follower.follow(made)

    def _is_made_from_model(self, call: cst.Call, scope: Scope) -> bool:
        if self._mentions_parameters(call, scope, self.lists):
            return True
        return "optim" in last_name(call.func).lower() and any(self._is_model(item.value, scope) for item in call.args)

    @cached_property
    def lists(self) -> set[Ref]:
        """Names that hold (some of) the model's parameters."""
        assigned: list[tuple[Sequence[cst.BaseExpression], cst.CSTNode, Scope]] = []
        for node, scope in self.tree.scopes.items():
            if isinstance(node, cst.Assign | cst.AnnAssign | cst.AugAssign) and node.value is not None:
                value = node.value
                if isinstance(value, cst.Call) and last_name(value.func) not in (
                    LISTS | {"parameters", "named_parameters"}
                ):
                    continue
                targets = [item.target for item in node.targets] if isinstance(node, cst.Assign) else [node.target]
                assigned.append((targets, value, scope))
            elif isinstance(node, cst.Call) and last_name(node.func) in ("extend", "append"):
                holders = [node.func.value] if isinstance(node.func, cst.Attribute) else []
                assigned += [(holders, argument, scope) for argument in node.args]
        lists: set[Ref] = set()
        while True:
            found = {
                ref
                for targets, value, scope in assigned
                for target in targets
                if (ref := self.follower.ref(target, scope)) is not None
                and ref not in lists
                and self._mentions_parameters(value, scope, lists)
            }
            if not found:
                return lists
            lists |= found

    def _mentions_parameters(self, node: cst.CSTNode, scope: Scope, lists: set[Ref]) -> bool:
        for part in descendants(node):
            is_access = isinstance(part, cst.Attribute) and part.attr.value in ("parameters", "named_parameters")
            if is_access and isinstance(part, cst.Attribute) and self._is_model(part.value, scope):
                return True
            if isinstance(part, cst.Name | cst.Attribute) and self.follower.ref(part, scope) in lists:
                return True
        return False

    def _is_step(self, call: cst.Call, scope: Scope) -> bool:
        if not isinstance(call.func, cst.Attribute) or call.func.attr.value != "step":
            return False
        if self.follower.function(call, scope) is not None:
            return False  # a function of this file: the step is taken inside
        holders = [call.func.value, *(argument.value for argument in call.args)]  # scaler.step(optimizer)
        return any(self.follower.ref(holder, scope) in self.optimisers for holder in holders)

    def _steps(self, optimisers: list[Ref]) -> Iterator[cst.Call]:
        for node, scope in self.tree.attributes:
            is_step = node.attr.value == "step" and self.follower.ref(node.value, scope) in optimisers
            parent = self.tree.parents[node]
            if is_step and not (isinstance(parent, cst.Call) and parent.func is node):
                message = (
                    "the energy optimiser's step is handed on here, and where it is taken cannot be told; " + BY_HAND
                )
                raise Refusal("unsupported", message, line=self.tree.line(node))
        for call, scope in self.tree.calls:
            if not self._is_step(call, scope):
                continue
            assert isinstance(call.func, cst.Attribute)
            if call.args and self.follower.ref(call.func.value, scope) in optimisers:
                message = "the energy optimiser's step takes a closure, which computes gradients inside; " + BY_HAND
                raise Refusal("unsupported", message, line=self.tree.line(call))
            yield call

    def _first_read(self, step: cst.CSTNode) -> cst.CSTNode:
        """The earliest statement up to a step, in its block or one around it, that reads the gradients."""
        earliest = step
        current = step
        while True:
            block = self.tree.parents[current]
            if not _is_block(block):
                if not isinstance(block, cst.If | cst.Else | cst.With | cst.Try):
                    return earliest
                current = block
                continue
            for statement in reversed(block.body[: block.body.index(current)]):  # type: ignore[attr-defined]
                if self._ends_the_search(statement):
                    return earliest
                if self._reads_gradients(statement):
                    earliest = statement
            holder = self.tree.parents.get(block)
            if holder is None or isinstance(holder, cst.For | cst.While | cst.FunctionDef | cst.ClassDef):
                return earliest
            current = holder

    def _ends_the_search(self, statement: cst.CSTNode) -> bool:
        for node in descendants(statement):
            if not isinstance(node, cst.Call):
                continue
            if node in self._backward_calls:
                return True
            holder = node.func.value if isinstance(node.func, cst.Attribute) else None
            if holder is None or last_name(node.func) not in ("step", "zero_grad"):
                continue
            if self.follower.ref(holder, self.tree.scopes[node]) in self.optimisers:
                return True
        return False

    def _reads_gradients(self, statement: cst.CSTNode) -> bool:
        for node in descendants(statement):
            scope = self.tree.scopes.get(node)
            if node in self._clipping_calls:
                return True
            is_gradient = isinstance(node, cst.Attribute) and node.attr.value == "grad"
            if is_gradient and scope is not None and self._mentions_parameters(statement, scope, self.lists):
                return True
        return False

    def _is_clip(self, call: cst.Call, scope: Scope) -> bool:
        """A call that clips, unscales or measures the gradients of the model or of its optimiser."""
        if not CLIP_NAME.search(last_name(call.func).lower()):
            return False
        holders = [call.func.value] if isinstance(call.func, cst.Attribute) else []
        for holder in [*holders, *(argument.value for argument in call.args)]:
            ref = self.follower.ref(holder, scope)
            if ref is not None and (ref in self.optimisers or ref in self.models):
                return True
        return any(self._mentions_parameters(argument, scope, self.lists) for argument in call.args)

    # --- both -------------------------------------------------------------------------------------------------

    def _point(self, at: LinePoint, statement: cst.CSTNode, seen: str, line: int) -> SyncPoint:
        scope = self.tree.scopes[statement]
        names = [(ref, name) for ref in self.models if (name := self.follower.name_in([ref], scope)) is not None]
        if not names:
            message = f"the energy model has no name in the function around this line ({seen}); {BY_HAND}"
            raise Refusal("not-found", message, line=line)
        # Of several names, one that has its value here: the loss's own may be given to the model further down.
        ref, model = next((item for item in names if self._is_set(item[0], statement)), names[0])
        return SyncPoint(at, model, seen, self._may_be_none(ref, model, statement, scope))

    def _is_set(self, ref: Ref, statement: cst.CSTNode) -> bool:
        if ref.attribute is not None:
            return True
        bound = [binding.node for binding in ref.scope.bindings.get(ref.name, [])]
        return any(node in bound for node in descendants(statement)) or self.values.order.is_set(
            ref.name, ref.scope, statement
        )

    def _may_be_none(self, ref: Ref, model: str, statement: cst.CSTNode, scope: Scope) -> bool:
        """Whether the model may be None at a statement.

        Raises:
            Refusal: `ambiguous`, where it may have no value at all.
        """
        if self._is_there(ref, model, statement):
            return False
        if self._none_reaches(ref, frozenset()):
            return True
        bindings = ref.scope.bindings.get(ref.name, [])
        if ref.attribute is None and ref.scope.function() is scope.function() and len(bindings) == 1:
            binding = bindings[0].node
            if not isinstance(binding, cst.Param) and self._is_conditional(binding, statement):
                message = (
                    f"the energy model is built only under a condition (line {self.tree.line(binding)}), and this line "
                    f"may run without it; set {model} = None before the condition, or {BY_HAND}"
                )
                raise Refusal("ambiguous", message, line=self.tree.line(statement))
        return False

    def _is_conditional(self, binding: cst.CSTNode, statement: cst.CSTNode) -> bool:
        around = [*self.tree.ancestors(statement)]
        return any(isinstance(node, cst.If) and node not in around for node in self.tree.ancestors(binding))

    def _is_there(self, ref: Ref, model: str, statement: cst.CSTNode) -> bool:
        """Whether a statement comes after a build, or stands under a test that the model exists."""
        conditions = {f"{model} is not None", model}
        for build, _ in self._builds():
            holds = [
                binding
                for binding, _ in self.follower.bindings(ref)
                if binding.value is not None and statement_of(self.tree, binding.node) is build
            ]
            if not holds or any(_can_be_none(binding.value) for binding in holds):
                continue
            if build is statement or self._dominates(build, statement):
                return True
            conditions |= {self.tree.text(node.test) for node in self._tests_around(build)}
        return any(self.tree.text(node.test) in conditions for node in self._tests_around(statement))

    def _dominates(self, statement: cst.CSTNode, node: cst.CSTNode) -> bool:
        while not self.values.order.dominates(statement, node):
            holder = self.tree.parents.get(self.tree.parents[statement])
            if not isinstance(holder, cst.With | cst.Try):
                return False
            statement = holder
        return True

    def _tests_around(self, node: cst.CSTNode) -> Iterator[cst.If]:
        child = node
        for ancestor in self.tree.ancestors(node):
            if isinstance(ancestor, cst.If) and child is ancestor.body:
                yield ancestor
            if isinstance(ancestor, cst.FunctionDef):
                return
            child = ancestor

    def _none_reaches(self, ref: Ref, seen: frozenset[Ref]) -> bool:
        """Whether some assignment or call gives a name None."""
        if ref in seen:
            return False
        seen |= {ref}
        for binding, scope in self.follower.bindings(ref):
            values: list[tuple[cst.BaseExpression, Scope]] = []
            if isinstance(binding.node, cst.Param) and isinstance(ref.scope.node, cst.FunctionDef):
                values = self.values.callers.passed(ref.scope.node, ref.name)
                calls = self.values.callers.uses_of_function(ref.scope.node)[0]
                if _can_be_none(binding.value) and (not calls or len(values) < len(calls)):
                    return True
            elif binding.value is not None:
                values = [(binding.value, scope)]
            for value, at in values:
                origin = self.follower.ref(value, at)
                if _can_be_none(value) or (origin is not None and self._none_reaches(origin, seen)):
                    return True
        return False

    def _check_by_hand(self, statement: cst.CSTNode, option: str, line: int) -> None:
        """A line that only some ranks reach is refused; one that cannot be told is the user's word, and noted."""
        if lines := self.values.ranks.rank_conditions(statement):
            message = (
                f"{option} {line}: that line is reached only where a condition on the rank holds "
                f"(`{self.tree.source.line_text(lines[0]).strip()}`), so the other ranks would wait for ever; name a "
                "line that every rank reaches"
            )
            raise Refusal("unsupported", message, line=lines[0])
        if lines := self.values.ranks.uncertain_conditions(statement, through_callers=True):
            self.notes.append(f"{option} {line}: see that every rank meets the condition on line {lines[0]} alike")

    def _check_step_follows(self, statement: cst.CSTNode, line: int) -> None:
        steps = list(self._steps(self.optimisers))
        around = self.tree.scopes[statement].function()
        if steps and not any(
            self.tree.line(step) >= line and self.tree.scopes[step].function() is around for step in steps
        ):
            message = (
                f"--average-before {line}: the energy optimiser's step is not behind that line (it is on line "
                f"{self.tree.line(steps[0])}); name a line before it"
            )
            raise Refusal("not-found", message, line=line)

    def _statement_at(self, line: int, option: str) -> cst.CSTNode:
        found = [
            node
            for node in self.tree.scopes
            if isinstance(node, STATEMENTS)
            and not isinstance(node, cst.SimpleStatementSuite)
            and (self.tree.line(node) == line or self._simple_line_holds(node, line))
        ]
        if not found:
            message = f"{option} {line}: no statement stands on that line; name the line where one begins"
            raise Refusal("not-found", message, line=line)
        return min(found, key=lambda node: (self.tree.line(node), -self.tree.last_line(node)))

    def _simple_line_holds(self, node: cst.CSTNode, line: int) -> bool:
        is_simple = isinstance(node, cst.SimpleStatementLine)
        return is_simple and self.tree.line(node) <= line <= self.tree.last_line(node)

    def _some_line(self) -> int | None:
        for ref in self.models:
            for binding, _ in self.follower.bindings(ref):
                return self.tree.line(binding.node)
        return None


def _can_be_none(value: cst.CSTNode | None) -> bool:
    if isinstance(value, cst.IfExp):
        return _can_be_none(value.body) or _can_be_none(value.orelse)
    return value is not None and dotted_name(value) == "None"


def _is_block(node: cst.CSTNode) -> bool:
    return isinstance(node, cst.IndentedBlock | cst.Module)


def _is_optimiser(call: cst.Call) -> bool:
    name = last_name(call.func).lower()
    return any(
        part in name for part in ("adam", "sgd", "rmsprop", "lion", "adagrad", "adadelta", "lamb", "muon", "optim")
    )

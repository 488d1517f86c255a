"""Find where the energy model is complete, and where its gradients are averaged before they are first used.

The model is followed by name from the loss call: up through the arguments of callers, down into functions that it
is passed to, through closures and `self.` attributes. What cannot be followed is a problem with words, not a guess.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import libcst as cst

from energy_patch.facts import LinePoint, Problem, Synchronisation, SyncPoint
from energy_patch.layout import STATEMENTS, point_after, point_before, statement_of
from energy_patch.refusal import Refusal
from energy_patch.tree import Binding, Scope, Tree, all_parameters, descendants, dotted_name
from energy_patch.values import Values, argument_for

WRAPPERS = frozenset({"DDP", "DistributedDataParallel", "compile", "wrap_ddp"})
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
CLIPPING = frozenset({"clip_grad_norm_", "clip_grad_value_", "clip_grad_norm", "clip_grad_value", "unscale_"})
LISTS = frozenset({"list", "tuple", "filter", "chain", "sorted", "set"})
BY_HAND = "name the lines with --broadcast-after LINE and --average-before LINE, or pass --no-sync"


@dataclass(frozen=True)
class Ref:
    """One name of the model (or of its optimiser): a variable of a scope, or `self.x` of a class scope."""

    scope: Scope
    name: str

    @property
    def attribute(self) -> str | None:
        return self.name.partition(".")[2] or None


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
    finder = _Finder(tree, values, follower, models)
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


class Follower:
    """Follows a value by its names, between functions of one file."""

    def __init__(self, tree: Tree, values: Values) -> None:
        self.tree = tree
        self.values = values

    def models(self, found: list[tuple[cst.Call, Scope]]) -> list[Ref]:
        """Every name of the model that the loss calls are given.

        Raises:
            Refusal: the first argument is not a name that can be followed.
        """
        start: list[Ref] = []
        for call, scope in found:
            argument = next(
                (item for item in call.args if item.keyword is not None and item.keyword.value == "energy_model"),
                call.args[0] if call.args else None,
            )
            ref = self.ref(argument.value, scope) if argument is not None and not argument.star else None
            if ref is None:
                written = self.tree.text(argument.value) if argument is not None else "nothing"
                message = f"the loss is given {written} as its energy model, which cannot be followed; {BY_HAND}"
                raise Refusal("not-found", message, line=self.tree.line(call))
            start.append(ref)
        return self.follow(start)

    def ref(self, node: cst.BaseExpression, scope: Scope) -> Ref | None:
        """The name that an expression is: `x`, `self.x`, or either with `.module` behind it."""
        name = dotted_name(node)
        name = name.removesuffix(".module") if name else None
        if not name:
            return None
        if "." not in name:
            owner = scope.owner(name)
            return Ref(owner, name) if owner else None
        holder = scope.function().enclosing_class()
        first, _, rest = name.partition(".")
        is_self = holder is not None and scope.function().parent is holder and "." not in rest
        return Ref(holder, f"self.{rest}") if is_self and holder and first == self._self_name(scope) else None

    def _self_name(self, scope: Scope) -> str | None:
        node = scope.function().node
        parameters = all_parameters(node.params) if isinstance(node, cst.FunctionDef) else []
        return parameters[0].name.value if parameters else None

    def follow(self, start: Iterable[Ref]) -> list[Ref]:
        """All names of the same value, the given ones first.

        First up to where the value comes from, then down to where it goes: a helper that is called with several
        modules must not make them one.
        """
        upward = self._closure(start, self._origins)
        return self._closure(upward, self._destinations)

    def _closure(self, start: Iterable[Ref], step: Callable[[Ref], Iterable[Ref]]) -> list[Ref]:
        found: list[Ref] = []
        waiting = list(start)
        while waiting:
            ref = waiting.pop(0)
            if ref not in found:
                found.append(ref)
                waiting += step(ref)
        return found

    def _origins(self, ref: Ref) -> Iterator[Ref]:
        """Where a name's value comes from: arguments of callers, another name, what a wrapper wraps."""
        for binding, scope in self.bindings(ref):
            sources: list[tuple[cst.BaseExpression, Scope]] = []
            if isinstance(binding.node, cst.Param) and isinstance(ref.scope.node, cst.FunctionDef):
                sources = self.values.passed(ref.scope.node, ref.name)
            elif binding.kind == "assign" and binding.value is not None:
                value = binding.value
                is_wrapped = isinstance(value, cst.Call) and last_name(value.func) in WRAPPERS and value.args
                sources = [(value.args[0].value if is_wrapped else value, scope)]  # type: ignore[attr-defined]
            for value, at in sources:
                if (origin := self.ref(value, at)) is not None:
                    yield origin

    def _destinations(self, ref: Ref) -> Iterator[Ref]:
        """Where a name's value goes: parameters that it is passed to, names that it is assigned to."""
        for call, at in self.tree.calls:
            function = self._function(call, at)
            if function is None:
                continue
            is_method = self.tree.scopes[function].is_class
            for parameter in all_parameters(function.params):
                value = argument_for(function, call, parameter.name.value, is_method=is_method)
                if value is not None and self.ref(value, at) == ref:
                    inner = self.tree.scopes[function.body.body[0]] if function.body.body else None
                    if inner is not None:
                        yield Ref(inner, parameter.name.value)
        for node, scope in self._assignments():
            if node.value is not None and self.ref(node.value, scope) == ref:
                for target in node.targets if isinstance(node, cst.Assign) else [node]:
                    if (destination := self.ref(target.target, scope)) is not None:
                        yield destination

    def _function(self, call: cst.Call, at: Scope) -> cst.FunctionDef | None:
        name = dotted_name(call.func)
        if name is None or "." in name:
            return None
        bindings = at.resolve(name)
        node = bindings[0].node if len(bindings) == 1 else None
        return node if isinstance(node, cst.FunctionDef) else None

    def _assignments(self) -> Iterator[tuple[cst.Assign | cst.AnnAssign, Scope]]:
        for node, scope in self.tree.scopes.items():
            if isinstance(node, cst.Assign | cst.AnnAssign):
                yield node, scope

    def bindings(self, ref: Ref) -> list[tuple[Binding, Scope]]:
        """Everything that gives a name its value, with the scope in which it happens."""
        if ref.attribute is None:
            return [(binding, ref.scope) for binding in ref.scope.bindings.get(ref.name, [])]
        found = []
        for node, scope in self._assignments():
            for target in node.targets if isinstance(node, cst.Assign) else [node]:
                if isinstance(target.target, cst.Attribute) and self.ref(target.target, scope) == ref:
                    found.append((Binding("assign", node, node.value), scope))
        return found

    def name_in(self, refs: Iterable[Ref], scope: Scope) -> str | None:
        """What a followed value is called in a scope."""
        for ref in refs:
            if ref.attribute is not None:
                method = scope.function()
                if method.parent is ref.scope:
                    return f"{self._self_name(scope)}.{ref.attribute}"
            elif scope.owner(ref.name) is ref.scope:
                return ref.name
        return None


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
    return follow_value(tree, values, Follower(tree, values).models(found))


def follow_value(tree: Tree, values: Values, refs: Iterable[Ref]) -> Trail:
    """The trail of any module, from some names of it.

    Raises:
        Refusal: its optimiser's step takes a closure.
    """
    follower = Follower(tree, values)
    finder = _Finder(tree, values, follower, follower.follow(refs))
    return Trail(
        follower=follower,
        refs=tuple(finder.models),
        optimisers=tuple(finder._optimisers()),
        lists=frozenset(finder._parameter_lists()),
        builds=tuple(finder._builds()),
        steps=tuple(finder._steps(finder._optimisers())),
    )


class _Finder:
    """The sync points of one followed model."""

    def __init__(self, tree: Tree, values: Values, follower: Follower, models: list[Ref]) -> None:
        self.tree = tree
        self.values = values
        self.follower = follower
        self.models = models
        self.notes: list[str] = []

    # --- broadcast --------------------------------------------------------------------------------------------

    def broadcasts(self, by_hand: tuple[int, ...]) -> Iterator[SyncPoint]:
        self._refuse_unsupported()
        if by_hand:
            for line in by_hand:
                statement = self._statement_at(line, "--broadcast-after")
                yield self._point(point_after(self.tree, statement), statement, "--broadcast-after", line)
            return
        builds = self._builds()
        if not builds:
            message = f"where the energy model is built was not found in this file; {BY_HAND}"
            raise Refusal("not-found", message, line=self._some_line())
        for scope in dict.fromkeys(scope for _, scope in builds):
            own = [statement for statement, at in builds if at is scope]
            statement = self._last_preparation(own, scope)
            lines = self.values.uncertain_conditions(statement, through_callers=False)
            if lines:
                message = (
                    "the energy model is built under a condition that ranks may decide differently; name a line that "
                    "every rank reaches with --broadcast-after LINE, or pass --no-sync"
                )
                raise Refusal("unsupported", message, line=lines[0])
            text = self.tree.source.line_text(self.tree.line(statement)).strip()
            yield self._point(point_after(self.tree, statement), statement, text, self.tree.line(statement))

    def _refuse_unsupported(self) -> None:
        for call, scope in self.tree.calls:
            wrapper = UNSUPPORTED.get(last_name(call.func))
            if wrapper is None or not any(self._is_model(argument.value, scope) for argument in call.args):
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
        builds = []
        for ref in self.models:
            for binding, _ in self.follower.bindings(ref):
                value = binding.value
                if binding.kind != "assign" or value is None or dotted_name(value) is not None:
                    continue
                statement = statement_of(self.tree, binding.node)
                builds.append((statement, self.tree.scopes[statement]))
        return builds

    def _last_preparation(self, builds: list[cst.CSTNode], scope: Scope) -> cst.CSTNode:
        """The statement after which the model is complete, in the block that holds all of its builds."""
        optimiser = self._optimiser_line(scope)
        before = [build for build in builds if optimiser is None or self.tree.line(build) < optimiser]
        if not before:
            message = f"the energy model is rebuilt after its optimiser is made on line {optimiser}; {BY_HAND}"
            raise Refusal("ambiguous", message, line=self.tree.line(builds[0]))
        block = self._common_block(before)
        preparations = [*before]
        for call, at in self.tree.calls:
            if at.function() is not scope.function() or not self._prepares(call, at):
                continue
            line = self.tree.line(call)
            if optimiser is not None and line > optimiser:
                if last_name(call.func) in ("apply", "reset_parameters", "init_weights"):
                    message = f"the energy model is initialised again after its optimiser is made; {BY_HAND}"
                    raise Refusal("ambiguous", message, line=line)
                continue
            preparations.append(statement_of(self.tree, call))
        inside = [item for item in (self._child_of(block, statement) for statement in preparations) if item]
        return max(inside, key=self.tree.last_line)

    def _prepares(self, call: cst.Call, scope: Scope) -> bool:
        """`model.to(...)`, `model.load_state_dict(...)`, or a bare call that is handed the model to change it."""
        if isinstance(call.func, cst.Attribute) and call.func.attr.value in PREPARING_METHODS:
            return self._is_model(call.func.value, scope)
        is_bare = isinstance(self.tree.parents[call], cst.Expr)
        inspects = last_name(call.func) in ("print", "len", "count_parameters", "watch", "summary", "info")
        return is_bare and not inspects and any(self._is_model(argument.value, scope) for argument in call.args[:1])

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
            for ref in self._optimisers()
            for binding, at in self.follower.bindings(ref)
            if binding.kind == "assign" and isinstance(binding.value, cst.Call) and at.function() is scope.function()
        ]
        return min(lines, default=None)

    # --- average ----------------------------------------------------------------------------------------------

    def averages(self, by_hand: tuple[int, ...]) -> Iterator[SyncPoint]:
        self._refuse_unsupported()
        if by_hand:
            for line in by_hand:
                statement = self._statement_at(line, "--average-before")
                yield self._point(point_before(self.tree, statement), statement, "--average-before", line)
            return
        optimisers = self._optimisers()
        steps = list(self._steps(optimisers))
        if not steps:
            message = f"the step of the optimiser that holds the energy model's parameters was not found; {BY_HAND}"
            raise Refusal("not-found", message, line=self._some_line())
        places: dict[int, SyncPoint] = {}
        for call in steps:
            statement = self._first_use(statement_of(self.tree, call), optimisers)
            lines = self.values.uncertain_conditions(statement, through_callers=True)
            if lines:
                seen = self.tree.source.line_text(lines[0]).strip()
                message = (
                    f"the energy optimiser's step on line {self.tree.line(call)} runs under a condition that ranks may "
                    f"decide differently (`{seen}`), and then averaging would hang; make the condition one of config "
                    "and counters, name a line that every rank reaches with --average-before LINE, or pass --no-sync"
                )
                raise Refusal("unsupported", message, line=lines[0])
            point = point_before(self.tree, statement)
            text = self.tree.source.line_text(self.tree.line(statement)).strip()
            places.setdefault(point.offset, self._point(point, statement, text, self.tree.line(statement)))
        yield from places.values()

    def _optimisers(self) -> list[Ref]:
        """The names on which a step is taken and that were made from the model's parameters."""
        lists = self._parameter_lists()
        made: list[Ref] = []
        for node, scope in self.follower._assignments():
            if not isinstance(node.value, cst.Call) or not self._mentions_parameters(node.value, scope, lists):
                continue
            for target in node.targets if isinstance(node, cst.Assign) else [node]:
                ref = self.follower.ref(target.target, scope)
                if ref is not None and ("optim" in ref.name.lower() or _is_optimiser(node.value)):
                    made.append(ref)
        return self.follower.follow(made)

    def _parameter_lists(self) -> set[Ref]:
        """Names that hold (some of) the model's parameters."""
        lists: set[Ref] = set()
        for _ in range(4):  # a list of a list of a list: deeper is not seen in the wild
            for node, scope in list(self.tree.scopes.items()):
                if isinstance(node, cst.Assign | cst.AnnAssign | cst.AugAssign) and node.value is not None:
                    value = node.value
                    is_list = not isinstance(value, cst.Call) or last_name(value.func) in (
                        LISTS | {"parameters", "named_parameters"}
                    )
                    if is_list and self._mentions_parameters(value, scope, lists):
                        targets = (
                            [item.target for item in node.targets] if isinstance(node, cst.Assign) else [node.target]
                        )
                        lists |= {ref for target in targets if (ref := self.follower.ref(target, scope))}
                elif isinstance(node, cst.Call) and last_name(node.func) in ("extend", "append"):
                    holder = node.func.value if isinstance(node.func, cst.Attribute) else None
                    if holder is not None and any(self._mentions_parameters(arg, scope, lists) for arg in node.args):
                        lists |= {ref} if (ref := self.follower.ref(holder, scope)) else set()
        return lists

    def _mentions_parameters(self, node: cst.CSTNode, scope: Scope, lists: set[Ref]) -> bool:
        for part in descendants(node):
            is_access = isinstance(part, cst.Attribute) and part.attr.value in ("parameters", "named_parameters")
            if is_access and isinstance(part, cst.Attribute) and self._is_model(part.value, scope):
                return True
            if isinstance(part, cst.Name | cst.Attribute) and self.follower.ref(part, scope) in lists:
                return True
        return False

    def _steps(self, optimisers: list[Ref]) -> Iterator[cst.Call]:
        for call, scope in self.tree.calls:
            if not isinstance(call.func, cst.Attribute) or call.func.attr.value != "step":
                continue
            if self.follower.ref(call.func.value, scope) in optimisers:
                if call.args:
                    message = "the energy optimiser's step takes a closure, which computes gradients inside; " + BY_HAND
                    raise Refusal("unsupported", message, line=self.tree.line(call))
                yield call
            elif any(self.follower.ref(argument.value, scope) in optimisers for argument in call.args):
                yield call  # scaler.step(optimizer)

    def _first_use(self, step: cst.CSTNode, optimisers: list[Ref]) -> cst.CSTNode:
        """The earliest statement before a step, in its block or one around it, that reads the gradients."""
        lists = self._parameter_lists()
        earliest = step
        current: cst.CSTNode = step
        while True:
            if isinstance(current, cst.SimpleStatementSuite):
                current = self.tree.parents[current]
                earliest = current if earliest is step else earliest
                continue
            block = self.tree.parents[current]
            if not _is_block(block):
                if isinstance(block, cst.If | cst.Else | cst.With | cst.Try):
                    current = block
                    continue
                return earliest
            for statement in reversed(block.body[: block.body.index(current)]):  # type: ignore[attr-defined]
                if self._ends_the_search(statement, optimisers):
                    return earliest
                if self._clips(statement, optimisers, lists):
                    earliest = statement
            holder = self.tree.parents.get(block)
            if holder is None or isinstance(holder, cst.For | cst.While | cst.FunctionDef):
                return earliest
            current = holder

    def _ends_the_search(self, statement: cst.CSTNode, optimisers: list[Ref]) -> bool:
        for node in descendants(statement):
            if isinstance(node, cst.Call) and isinstance(node.func, cst.Attribute):
                name = node.func.attr.value
                scope = self.tree.scopes[node]
                if name == "backward" or (
                    name in ("step", "zero_grad") and self.follower.ref(node.func.value, scope) in optimisers
                ):
                    return True
        return False

    def _clips(self, statement: cst.CSTNode, optimisers: list[Ref], lists: set[Ref]) -> bool:
        for node in descendants(statement):
            if isinstance(node, cst.Call) and last_name(node.func) in CLIPPING:
                scope = self.tree.scopes[node]
                for argument in node.args:
                    is_optimiser = self.follower.ref(argument.value, scope) in optimisers
                    if is_optimiser or self._mentions_parameters(argument, scope, lists):
                        return True
        return False

    # --- both -------------------------------------------------------------------------------------------------

    def _point(self, at: LinePoint, statement: cst.CSTNode, seen: str, line: int) -> SyncPoint:
        scope = self.tree.scopes[statement]
        model = self.follower.name_in(self.models, scope)
        if model is None:
            message = f"the energy model has no name in the function around this line ({seen}); {BY_HAND}"
            raise Refusal("not-found", message, line=line)
        return SyncPoint(at, model, seen)

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


def last_name(node: cst.CSTNode) -> str:
    """`c` of `a.b.c`, also behind a call: what a callee is called."""
    if isinstance(node, cst.Attribute):
        return node.attr.value
    return node.value if isinstance(node, cst.Name) else ""


def _is_block(node: cst.CSTNode) -> bool:
    return isinstance(node, cst.IndentedBlock | cst.Module)


def _is_optimiser(call: cst.Call) -> bool:
    name = last_name(call.func).lower()
    return any(
        part in name for part in ("adam", "sgd", "rmsprop", "lion", "adagrad", "adadelta", "lamb", "muon", "optim")
    )

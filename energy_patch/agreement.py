"""What is the same on every rank."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import cached_property

import libcst as cst

from energy_patch.locate.callers import Callers, called_name, first_parameter
from energy_patch.locate.config_names import ConfigNames
from energy_patch.syntax.tree import Binding, Scope, Tree, children, descendants, dotted_name

# Calls whose result is the same on every rank if their arguments are.
AGREEING_CALLS = frozenset(
    {"abs", "bool", "float", "int", "max", "min", "round", "range"}
    | {"dist.get_world_size", "dist.is_initialized", "dist.is_available"}
    | {
        "torch.distributed.get_world_size",
        "torch.distributed.is_initialized",
        "torch.distributed.is_available",
    }
    | {"torch.cuda.is_available", "math.ceil", "math.floor"}
)
# What tells ranks apart, as a name or an attribute; `lora_rank` and the like are something else.
RANK_NAME = re.compile(
    r"(?:(?:global_|local_|node_|world_|process_|ddp_)?rank|(?:local_)?process_index|local_id|device_id|gpu(?:_id)?"
    r"|(?:is_)?(?:local_|world_|global_)?(?:main|master|primary)(?:_process|_rank|_node)?|is_(?:rank_?zero|rank_?0|first)"
    r"|get_(?:global_|local_|node_)?rank)",
    re.IGNORECASE,
)
# Attributes that a library keeps equal on all ranks.
AGREEING_ATTRIBUTES = frozenset({"sync_gradients", "gradient_accumulation_steps", "num_processes", "training"})
PROGRESS_WRAPPERS = frozenset({"tqdm", "trange", "track"})
COUNTERS = frozenset({"range", "trange", "count"})


class Agreement:
    """Answers about one tree; nothing here edits or decides."""

    def __init__(self, tree: Tree, callers: Callers, config: ConfigNames) -> None:
        self.tree = tree
        self._callers = callers
        self._config = config
        self._asked: set[tuple[int, str]] = set()

    def uncertain_conditions(self, node: cst.CSTNode, *, through_callers: bool) -> tuple[int, ...]:
        """Lines of conditions around a node, and of early exits before it, that ranks might decide differently."""
        return tuple(sorted({self.tree.line(item) for item in self._uncertain(node, through_callers, frozenset())}))

    def rank_conditions(self, node: cst.CSTNode) -> tuple[int, ...]:
        """Lines of conditions around a node that tell ranks apart by their number, where gradients are enabled."""
        if self.without_gradients(node):
            return ()
        found = self._uncertain(node, True, frozenset())
        return tuple(sorted({self.tree.line(item) for item in found if _mentions_rank(item)}))

    def _uncertain(
        self, node: cst.CSTNode, through_callers: bool, seen: frozenset[cst.CSTNode]
    ) -> Iterator[cst.CSTNode]:
        child = node
        for ancestor in self.tree.ancestors(node):
            scope = self.tree.scopes[ancestor]
            if isinstance(ancestor, cst.If | cst.While | cst.IfExp):
                if child is not ancestor.test and not self.agrees(ancestor.test, scope):
                    yield ancestor.test
            elif isinstance(ancestor, cst.BooleanOperation):
                if child is ancestor.right and not self.agrees(ancestor.left, scope):
                    yield ancestor.left
            elif isinstance(ancestor, cst.ExceptHandler | cst.ExceptStarHandler | cst.MatchCase):
                yield ancestor
            elif isinstance(ancestor, cst.Try | cst.TryStar) and child in (ancestor.body, ancestor.orelse):
                # A rank that fails on its own and goes on leaves the others waiting.
                if self._in_loop(ancestor, frozenset()):
                    yield from (handler for handler in ancestor.handlers if _goes_on(handler))
            elif isinstance(ancestor, cst.With) and child is ancestor.body:
                yield from (
                    item for item in ancestor.items if called_name(item.item) == "suppress" and self._in_loop(ancestor)
                )
            elif isinstance(ancestor, cst.For) and child is ancestor.body:
                yield from self._uncertain_ends(ancestor.body)
            elif isinstance(ancestor, cst.IndentedBlock):
                yield from self._uncertain_exits(ancestor, child)
                if isinstance(self.tree.parents[ancestor], cst.While):
                    yield from self._uncertain_ends(ancestor)
            elif isinstance(ancestor, cst.FunctionDef):
                if through_callers and ancestor not in seen:
                    for call, _ in self._callers.uses_of_function(ancestor)[0]:
                        if not self.without_gradients(call):
                            yield from self._uncertain(call, True, seen | {ancestor})
                return
            child = ancestor

    def _in_loop(self, node: cst.CSTNode, seen: frozenset[cst.CSTNode] = frozenset()) -> bool:
        for ancestor in self.tree.ancestors(node):
            if isinstance(ancestor, cst.For | cst.While):
                return True
            if isinstance(ancestor, cst.FunctionDef):
                calls = self._callers.uses_of_function(ancestor)[0] if ancestor not in seen else []
                return any(self._in_loop(call, seen | {ancestor}) for call, _ in calls)
        return False

    def _uncertain_exits(self, block: cst.IndentedBlock, until: cst.CSTNode) -> Iterator[cst.CSTNode]:
        """`continue`, `break` and `return` before a statement of a block, under conditions that may differ."""
        for statement in block.body:
            if statement is until:
                return
            for exit_ in _exits(statement):
                yield from self._uncertain_within(exit_, statement)

    def _uncertain_ends(self, block: cst.BaseSuite) -> Iterator[cst.CSTNode]:
        """`break` and `return` anywhere in a loop: a rank that leaves it early leaves the others waiting."""
        for statement in block.body:
            for exit_ in _exits(statement):
                if not isinstance(exit_, cst.Continue):
                    yield from self._uncertain_within(exit_, statement)

    def _uncertain_within(self, exit_: cst.CSTNode, statement: cst.CSTNode) -> Iterator[cst.CSTNode]:
        for ancestor in self.tree.ancestors(exit_):
            if isinstance(ancestor, cst.If) and not self.agrees(ancestor.test, self.tree.scopes[ancestor]):
                yield ancestor.test
            elif isinstance(ancestor, cst.ExceptHandler) and not _ends_an_iteration(ancestor):
                yield ancestor
            if ancestor is statement:
                return

    def without_gradients(self, node: cst.CSTNode) -> bool:
        """Whether a node stands under `no_grad` in its own function."""
        return any(name.rsplit(".", 1)[-1] in ("no_grad", "inference_mode") for name in self.contexts(node))

    def contexts(self, node: cst.CSTNode) -> Iterator[str]:
        """Dotted names of the `with` items and decorators that a node stands under."""
        for ancestor in self.tree.ancestors(node):
            expressions: list[cst.CSTNode] = []
            if isinstance(ancestor, cst.With):
                expressions = [item.item for item in ancestor.items]
            elif isinstance(ancestor, cst.FunctionDef):
                expressions = [decorator.decorator for decorator in ancestor.decorators]
            for expression in expressions:
                callee = expression.func if isinstance(expression, cst.Call) else expression
                yield dotted_name(callee) or ""

    def agrees(self, node: cst.BaseExpression, scope: Scope) -> bool:
        """Whether an expression is made of config, counters and constants only, so that ranks cannot differ."""
        match node:
            case cst.BaseNumber() | cst.SimpleString() | cst.ConcatenatedString():
                return True
            case cst.Name():
                return node.value in ("True", "False", "None", "__name__") or self._name_agrees(node.value, scope)
            case cst.Attribute():
                return self._attribute_agrees(node, scope)
            case cst.UnaryOperation():
                return self.agrees(node.expression, scope)
            case cst.BinaryOperation() | cst.BooleanOperation():
                return self.agrees(node.left, scope) and self.agrees(node.right, scope)
            case cst.Comparison():
                if len(node.comparisons) == 1 and self._tests_for_none(node, scope):
                    return True
                return all(self.agrees(part, scope) for part in [node.left, *(c.comparator for c in node.comparisons)])
            case cst.IfExp():
                return all(self.agrees(part, scope) for part in (node.test, node.body, node.orelse))
            case cst.Tuple() | cst.List():
                return all(self.agrees(element.value, scope) for element in node.elements)
            case cst.Call():
                return self._call_agrees(node, scope)
        return False

    def _call_agrees(self, call: cst.Call, scope: Scope) -> bool:
        callee = dotted_name(call.func)
        if callee == "len" and len(call.args) == 1:
            # Ranks that take differing numbers of steps are lost anyway, so the loop's own length is a counter.
            length_of = dotted_name(call.args[0].value)
            loops = (node for node in self.tree.ancestors(call) if isinstance(node, cst.For))
            return any(length_of is not None and length_of in _iterated(loop.iter) for loop in loops)
        return callee in AGREEING_CALLS and all(self.agrees(argument.value, scope) for argument in call.args)

    def _name_agrees(self, name: str, scope: Scope) -> bool:
        owner = scope.owner(name)
        if owner is None or RANK_NAME.fullmatch(name):
            return False
        key = (id(owner), name)
        if key in self._asked:
            return True  # a counter that is made of itself: its other bindings decide
        self._asked.add(key)
        try:
            if self._config.holds_settings(name, owner):
                return True
            return all(self._binding_agrees(name, binding, owner) for binding in owner.bindings[name])
        finally:
            self._asked.discard(key)

    def _binding_agrees(self, name: str, binding: Binding, owner: Scope) -> bool:
        if binding.kind == "import":
            return name.isupper()
        if isinstance(binding.node, cst.Param):
            return self._parameter_agrees(binding.node, owner)
        if binding.kind == "loop" and isinstance(binding.node, cst.For) and binding.value is not None:
            return _is_counter(name, binding.node.target, binding.value) and self._range_agrees(binding.value, owner)
        if binding.kind in ("assign", "augment") and binding.value is not None:
            if any(True for _ in self._conditions_of(binding.node)):
                return False
            if isinstance(binding.node, cst.Assign) and isinstance(binding.node.targets[0].target, cst.Tuple):
                return isinstance(binding.value, cst.Tuple) and self.agrees(binding.value, owner)
            return self.agrees(binding.value, owner)
        return False

    def _range_agrees(self, iterated: cst.BaseExpression, scope: Scope) -> bool:
        if isinstance(iterated, cst.Call) and called_name(iterated.func) in ("range", "trange"):
            return all(self.agrees(argument.value, scope) for argument in iterated.args if argument.keyword is None)
        return True

    def _parameter_agrees(self, parameter: cst.Param, scope: Scope) -> bool:
        function = scope.node
        if not isinstance(function, cst.FunctionDef):
            return False
        passed = self._callers.passed(function, parameter.name.value)
        return bool(passed) and all(self.agrees(value, at) for value, at in passed)

    def _attribute_agrees(self, node: cst.Attribute, scope: Scope) -> bool:
        name = dotted_name(node)
        if name is None or RANK_NAME.fullmatch(node.attr.value):
            return False
        if node.attr.value in AGREEING_ATTRIBUTES:
            return True
        config = self._config.expression(scope)
        if config is not None and name.startswith(f"{config}."):
            return self._writes_agree(node.attr.value)
        first = name.split(".")[0]
        owner = scope.owner(first)
        if owner is None:
            return False
        if self._config.holds_settings(first, owner):
            return self._writes_agree(node.attr.value)
        if node.attr.value.isupper() and all(binding.kind == "import" for binding in owner.bindings[first]):
            return True
        holder = scope.function().enclosing_class()
        if holder is None or name.count(".") != 1 or first != first_parameter(scope.function()):
            return False
        assigned = self._callers.self_attributes(holder).get(node.attr.value, [])
        key = (id(holder), name)
        if key in self._asked:
            return True
        self._asked.add(key)
        try:
            return bool(assigned) and all(value is not None and self.agrees(value, at) for value, at in assigned)
        finally:
            self._asked.discard(key)

    def _writes_agree(self, attribute: str) -> bool:
        """Whether what this file assigns to an attribute of that name, of a config say, is the same on every rank."""
        key = (0, attribute)
        if key in self._asked:
            return True
        self._asked.add(key)
        try:
            return all(
                node.value is not None
                and self.agrees(node.value, scope)
                and not any(True for _ in self._conditions_of(node))
                for node, scope in self._attribute_writes.get(attribute, ())
            )
        finally:
            self._asked.discard(key)

    @cached_property
    def _attribute_writes(self) -> dict[str, list[tuple[cst.Assign | cst.AnnAssign | cst.AugAssign, Scope]]]:
        found: dict[str, list[tuple[cst.Assign | cst.AnnAssign | cst.AugAssign, Scope]]] = {}
        for node, scope in self.tree.scopes.items():
            if isinstance(node, cst.Assign | cst.AnnAssign | cst.AugAssign):
                for target in [item.target for item in node.targets] if isinstance(node, cst.Assign) else [node.target]:
                    if isinstance(target, cst.Attribute):
                        found.setdefault(target.attr.value, []).append((node, scope))
        return found

    def _tests_for_none(self, node: cst.Comparison, scope: Scope) -> bool:
        """`x is None`, where whether x is None was decided by config and constants."""
        target = node.comparisons[0]
        is_none = isinstance(target.comparator, cst.Name) and target.comparator.value == "None"
        if not is_none or not isinstance(node.left, cst.Name):
            return False
        return self._presence_agrees(node.left, scope, frozenset())

    def _presence_agrees(self, name: cst.BaseExpression, scope: Scope, seen: frozenset[int]) -> bool:
        if not isinstance(name, cst.Name):
            return isinstance(name, cst.Call | cst.BaseNumber | cst.SimpleString) or (
                isinstance(name, cst.IfExp) and self.agrees(name.test, scope)
            )
        if name.value == "None":
            return True
        owner = scope.owner(name.value)
        if owner is None or id(owner) in seen:
            return owner is not None
        seen |= {id(owner)}
        for binding in owner.bindings[name.value]:
            if isinstance(binding.node, cst.Param) and isinstance(owner.node, cst.FunctionDef):
                values = self._callers.passed(owner.node, name.value)
            elif binding.kind == "assign" and binding.value is not None:
                if any(True for _ in self._conditions_of(binding.node)):
                    return False
                values = [(binding.value, owner)]
            else:
                return False
            if not all(self._presence_agrees(value, at, seen) for value, at in values):
                return False
        return True

    def _conditions_of(self, node: cst.CSTNode) -> Iterable[cst.CSTNode]:
        return self._uncertain(node, False, frozenset())


def _iterated(node: cst.BaseExpression) -> set[str]:
    """The names that a `for` goes over, through `enumerate`, progress bars and the like."""
    names = {name} if (name := dotted_name(node)) else set()
    if isinstance(node, cst.Call):
        for argument in node.args:
            names |= _iterated(argument.value)
    return names


def _is_counter(name: str, target: cst.CSTNode, iterated: cst.BaseExpression) -> bool:
    while isinstance(iterated, cst.Call) and called_name(iterated) in PROGRESS_WRAPPERS - COUNTERS and iterated.args:
        iterated = iterated.args[0].value
    if not isinstance(iterated, cst.Call):
        return False
    if called_name(iterated) == "enumerate" and isinstance(target, cst.Tuple):
        first = target.elements[0].value
        return isinstance(first, cst.Name) and first.value == name
    return called_name(iterated) in COUNTERS and isinstance(target, cst.Name)


def _mentions_rank(node: cst.CSTNode) -> bool:
    return any(isinstance(part, cst.Name) and RANK_NAME.fullmatch(part.value) for part in descendants(node))


def _ends_an_iteration(handler: cst.ExceptHandler) -> bool:
    return handler.type is not None and dotted_name(handler.type) == "StopIteration"


def _goes_on(handler: cst.ExceptHandler | cst.ExceptStarHandler) -> bool:
    """Whether a program goes on after an error that its handler catches."""
    if handler.type is not None and dotted_name(handler.type) in ("StopIteration", "KeyboardInterrupt", "ImportError"):
        return False
    last = handler.body.body[-1]
    if isinstance(last, cst.SimpleStatementLine):
        last = last.body[-1]
    if isinstance(last, cst.Expr):
        return called_name(last.value) not in ("exit", "_exit", "abort", "kill")
    return not isinstance(last, cst.Raise)


def _exits(node: cst.CSTNode, *, in_loop: bool = False) -> Iterator[cst.CSTNode]:
    """The exits inside a statement that leave the block it stands in."""
    if isinstance(node, cst.Return) or (isinstance(node, (cst.Continue, cst.Break)) and not in_loop):
        yield node
    elif isinstance(node, (cst.SimpleStatementLine, cst.SimpleStatementSuite, cst.IndentedBlock)):
        for part in node.body:
            yield from _exits(part, in_loop=in_loop)
    elif not isinstance(node, (cst.BaseSmallStatement, cst.BaseExpression, cst.FunctionDef, cst.ClassDef)):
        is_loop = in_loop or isinstance(node, (cst.For, cst.While))
        for child in children(node):
            yield from _exits(child, in_loop=is_loop)

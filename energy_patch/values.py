"""What values are: which names hold the config, who calls a function, and what is the same on every rank."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property

import libcst as cst

from energy_patch.layout import statement_of
from energy_patch.tree import Binding, Scope, Tree, all_parameters, children, descendants, dotted_name

Use = tuple[cst.Call, Scope]

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
# Decorators that hand on whatever keyword arguments they are given.
TRANSPARENT = frozenset(
    {"no_grad", "enable_grad", "inference_mode", "set_grad_enabled", "autocast", "custom_fwd", "compile", "record"}
    | {"staticmethod", "classmethod", "contextmanager", "asynccontextmanager", "override", "final", "abstractmethod"}
)
# How an instance is made from a config class, other than by calling it.
PARSERS = frozenset({"parse", "cli", "structured", "parse_config", "load_config", "from_cli", "CLI"})
CLASS_METHODS = re.compile(r"(?:from|load|parse|read|build|make|create|get|default|new)(?:_\w+)?")
PROGRESS_WRAPPERS = frozenset({"tqdm", "trange", "track"})
COUNTERS = frozenset({"range", "trange", "count"})


class Values:
    """Answers about one tree; nothing here edits or decides."""

    def __init__(self, tree: Tree, near: Sequence[Use] = ()) -> None:
        """`near` are the calls of the loss: of several config classes, one that is in scope there is chosen."""
        self.tree = tree
        self._asked: set[tuple[int, str]] = set()
        self._dataclasses = {node.name.value: node for node in _dataclasses(tree.root)}
        self.config_class: cst.ClassDef | None = None
        self._fields: frozenset[str] = frozenset()
        self._instance_names: frozenset[str] = frozenset()
        self._unusable: cst.ClassDef | None = None
        self._choose_config_class(near)

    # --- the config -------------------------------------------------------------------------------------------

    def config_expression(self, scope: Scope, at: cst.CSTNode | None = None) -> str | None:
        """How the config instance is written in a scope (`cfg`, `self.cfg`), or None where there is none.

        With `at`, only an instance that surely has its value when that node is reached.
        """
        inner: Scope | None = scope
        while inner is not None:
            for name in inner.bindings:
                if (
                    scope.owner(name) is inner
                    and self._is_config(name, inner)
                    and (at is None or self.is_set(name, inner, at))
                ):
                    return name
            inner = inner.parent
        method = scope.function()
        owner = method.enclosing_class()
        receiver = first_parameter(method)
        if owner is not None and method.parent is owner and receiver is not None:
            for target, assigned in self._self_attributes(owner).items():
                if all(self._is_config_value(value, where) for value, where in assigned) and (
                    at is None or any(self._sets_attribute(where, method, value, at) for value, where in assigned)
                ):
                    return f"{receiver}.{target}"
        return None

    def _sets_attribute(self, where: Scope, method: Scope, value: cst.CSTNode | None, at: cst.CSTNode) -> bool:
        """Whether `self.cfg = value` in a constructor has surely happened when a node in a method is reached."""
        constructor = where.node
        if not isinstance(constructor, cst.FunctionDef) or constructor.name.value not in ("__init__", "__post_init__"):
            return False
        assert value is not None
        for binding in where.resolve(dotted_name(value) or ""):
            if isinstance(binding.node, cst.Param) and _may_be_none(binding.node):
                return False
        statement = statement_of(self.tree, value)
        if where is method:
            return self.dominates(statement, at)
        return self.tree.parents[statement] is constructor.body

    def is_set(self, name: str, owner: Scope, at: cst.CSTNode) -> bool:
        """Whether a name of a scope surely has its value when a node inside is reached."""
        nodes = frozenset(binding.node for binding in owner.bindings[name])
        parameters = [node for node in nodes if isinstance(node, cst.Param)]
        if parameters and not any(_may_be_none(node) for node in parameters):
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
                if any(_surely_reaches(statement, nodes) for statement in above):
                    return True
            if ancestor is owner.node:
                break
            child = ancestor
        if inner is at or owner is not self.tree.root:
            return False
        return any(
            self._is_set_before_calls(statement, inner)
            for statement in self.tree.module.body
            if _surely_reaches(statement, nodes)
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

    def _choose_config_class(self, near: Sequence[Use]) -> None:
        """The dataclass that functions take or that is built: one in scope at the loss, else the largest."""
        used = [node for name, node in self._dataclasses.items() if self._is_used_as_config(name)]
        used = sorted(used, key=lambda node: -len([*_field_names(node)]))
        largest = next(iter(used), None)
        used = [node for node in used if not self._breaks_subclasses(node)]
        self._unusable = largest if largest not in used else None
        best: tuple[int, int] | None = None
        for place, node in enumerate(used):
            self._set_config_class(node)
            distance = (self._distance(near) if len(used) > 1 else 0, place)
            best = distance if best is None or distance < best else best
        self._set_config_class(used[best[1]] if best is not None else None)

    def _set_config_class(self, node: cst.ClassDef | None) -> None:
        self.config_class = node
        self._fields = frozenset(_field_names(node)) if node else frozenset()
        self._instance_names = frozenset(self._annotated_instances())

    def _distance(self, near: Sequence[Use]) -> int:
        if any(self.config_expression(scope, call) for call, scope in near):
            return 0
        for _, scope in near:
            around = scope.function().node
            if isinstance(around, cst.FunctionDef):
                callers = self.uses_of_function(around)[0]
                if any(self.config_expression(at, call) for call, at in callers):
                    return 1
        return 2

    def _breaks_subclasses(self, node: cst.ClassDef) -> bool:
        """Whether a new last field of a dataclass would come before fields of a subclass that then fail or shift."""
        has_default = any(part.value is not None for part in _annotated_fields(node))
        for other in self._subclasses(node):
            if any(_is_true(item, "kw_only") for item in other.decorators):
                continue
            own = [*_annotated_fields(other)]
            if not has_default and any(part.value is None for part in own):
                return True
            for call, scope in self.tree.calls:
                means_it = any(binding.node is other for binding in scope.resolve(dotted_name(call.func) or ""))
                if own and means_it and any(argument.keyword is None for argument in call.args):
                    return True
        return False

    def _subclasses(self, node: cst.ClassDef) -> list[cst.ClassDef]:
        found: list[cst.ClassDef] = []
        for other in self._dataclasses.values():
            if any(base is node or base in found for base in self.bases(other)):
                found.append(other)
        return found

    def bases(self, node: cst.ClassDef) -> Iterator[cst.ClassDef]:
        """The classes of this file that a class is derived from, the nearest first."""
        for argument in node.bases:
            for binding in self.tree.root.resolve(dotted_name(argument.value) or ""):
                if isinstance(binding.node, cst.ClassDef) and binding.node is not node:
                    yield binding.node
                    yield from self.bases(binding.node)

    def _is_used_as_config(self, name: str) -> bool:
        for scope in self.tree.all_scopes:
            for bindings in scope.bindings.values():
                if any(self._makes_instance(binding, name) for binding in bindings):
                    return True
        return False

    def _makes_instance(self, binding: Binding, name: str) -> bool:
        if isinstance(binding.node, cst.Param):
            return _annotation_names(binding.node.annotation) == name
        if isinstance(binding.node, cst.AnnAssign) and _annotation_names(binding.node.annotation) == name:
            return True
        targets = binding.node.targets if isinstance(binding.node, cst.Assign) else ()
        is_whole = all(isinstance(target.target, cst.Name | cst.Attribute) for target in targets)
        return binding.kind == "assign" and is_whole and self._is_instance(binding.value, name)

    def _is_instance(self, value: cst.CSTNode | None, name: str) -> bool:
        """`C(...)`, `C.load(...)` or `parse(C)`."""
        if not isinstance(value, cst.Call):
            return False
        callee = dotted_name(value.func) or ""
        if callee == name:
            return True
        first, _, method = callee.partition(".")
        if first == name:
            return bool(CLASS_METHODS.fullmatch(method))
        of_class = any(dotted_name(argument.value) == name for argument in value.args)
        return of_class and callee.rsplit(".", 1)[-1] in PARSERS

    def _annotated_instances(self) -> Iterator[str]:
        if self.config_class is None:
            return
        for scope in self.tree.all_scopes:
            for name, bindings in scope.bindings.items():
                if any(self._makes_instance(binding, self.config_class.name.value) for binding in bindings):
                    yield name

    def _is_config(self, name: str, scope: Scope) -> bool:
        if self.config_class is None:
            return False
        return all(self._is_config_binding(name, binding, scope) for binding in scope.bindings[name])

    def _is_config_binding(self, name: str, binding: Binding, scope: Scope) -> bool:
        assert self.config_class is not None
        if self._makes_instance(binding, self.config_class.name.value):
            return True
        if binding.kind == "assign" and isinstance(binding.value, cst.Name):
            return binding.value.value != name and self._is_config_value(binding.value, scope)
        if isinstance(binding.node, cst.Param) and binding.node.annotation is None:
            # An unannotated parameter is the config if it is called like it and read like it.
            read = {
                node.attr.value
                for node, at in self.tree.attributes
                if isinstance(node.value, cst.Name) and node.value.value == name and at.owner(name) is scope
            }
            return name in self._instance_names and bool(read & self._fields) and self._is_passed_configs(name, scope)
        return False

    def _is_passed_configs(self, name: str, scope: Scope) -> bool:
        """Whether no call in this file passes something else for a parameter."""
        function = scope.node
        key = (id(scope), f"passed {name}")
        if not isinstance(function, cst.FunctionDef) or key in self._asked:
            return True
        self._asked.add(key)
        try:
            return all(self._is_config_value(value, at) for value, at in self.passed(function, name))
        finally:
            self._asked.discard(key)

    def _is_config_value(self, value: cst.CSTNode | None, scope: Scope) -> bool:
        if self.config_class is not None and self._is_instance(value, self.config_class.name.value):
            return True
        if isinstance(value, cst.Attribute):
            return dotted_name(value) == self.config_expression(scope)
        if not isinstance(value, cst.Name):
            return False
        owner = scope.owner(value.value)
        return owner is not None and self._is_config(value.value, owner)

    def _self_attributes(self, owner: Scope) -> dict[str, list[tuple[cst.BaseExpression | None, Scope]]]:
        """Everything assigned to `self.NAME` in a class's methods."""
        assigned: dict[str, list[tuple[cst.BaseExpression | None, Scope]]] = {}
        for node in descendants(owner.node):
            if isinstance(node, cst.Assign):
                targets: list[cst.BaseExpression] = [target.target for target in node.targets]
                value: cst.BaseExpression | None = node.value
            elif isinstance(node, cst.AnnAssign | cst.AugAssign):
                targets, value = [node.target], node.value
            else:
                continue
            scope = self.tree.scopes[node]
            for target in targets:
                if isinstance(target, cst.Attribute) and dotted_name(target.value) == first_parameter(scope):
                    assigned.setdefault(target.attr.value, []).append((value, scope))
        return assigned

    # --- who calls whom ---------------------------------------------------------------------------------------

    def uses_of_function(self, node: cst.FunctionDef) -> tuple[list[Use], list[cst.CSTNode]]:
        """Calls that can only mean this function, and other mentions of it (passed around, wrapped)."""
        name = node.name.value
        scope = self.tree.scopes[node]
        is_method = scope.is_class
        calls: list[Use] = []
        callees: set[cst.CSTNode] = set()
        for call, at in self.tree.calls:
            if _last_name(call.func) != name:
                continue
            if is_method:
                matches = isinstance(call.func, cst.Attribute) and self._is_method(call.func, at, scope, name)
            else:
                matches = isinstance(call.func, cst.Name) and self._means(call.func, at, node)
            if matches:
                calls.append((call, at))
                callees.add(call.func)
        mentions: list[cst.CSTNode] = []
        if is_method:
            mentions += [item for item, _ in self.tree.attributes if item.attr.value == name and item not in callees]
        else:
            mentions += [item for item, at in self.tree.names if item not in callees and self._means(item, at, node)]
        return calls, [item for item in mentions if not isinstance(self.tree.parents[item], cst.FunctionDef)]

    def _means(self, name: cst.Name, at: Scope, node: cst.FunctionDef) -> bool:
        bindings = at.resolve(name.value) if name.value == node.name.value else []
        return len(bindings) == 1 and bindings[0].node is node

    def _is_method(self, callee: cst.Attribute, at: Scope, owner: Scope, name: str) -> bool:
        """`self.name` in the class itself, or `x.name` where x was built from the class; overriding: neither."""
        if callee.attr.value != name or not isinstance(callee.value, cst.Name):
            return False
        defined = [scope for scope in self.tree.all_scopes if scope.is_class and name in scope.bindings]
        if len(defined) != 1:
            return False
        method = at.function()
        if method.parent is owner and callee.value.value == first_parameter(method, or_class=True):
            return True
        assert isinstance(owner.node, cst.ClassDef)
        bindings = at.resolve(callee.value.value)
        return bool(bindings) and all(
            isinstance(binding.value, cst.Call) and dotted_name(binding.value.func) == owner.node.name.value
            for binding in bindings
        )

    def passed(self, function: cst.FunctionDef, name: str) -> list[tuple[cst.BaseExpression, Scope]]:
        """What each call of a function in this file passes for one of its parameters; omitted ones left out."""
        passed = []
        for call, at in self.uses_of_function(function)[0]:
            value = argument_for(function, call, name, is_method=self.takes_self(function))
            if value is not None:
                passed.append((value, at))
        return passed

    def takes_self(self, function: cst.FunctionDef) -> bool:
        """Whether a call through an instance fills the first parameter."""
        return self.tree.scopes[function].is_class and "staticmethod" not in _decorator_names(function)

    def is_transparent(self, function: cst.FunctionDef) -> bool:
        """Whether its decorators hand a new keyword argument on: known ones, and those of this file with `**`."""
        for name in _decorator_names(function):
            bindings = self.tree.scopes[function].resolve(name)
            if name in TRANSPARENT:
                continue
            wrappers = [
                node
                for binding in bindings
                if isinstance(binding.node, cst.FunctionDef)
                for node in descendants(binding.node.body)
                if isinstance(node, cst.FunctionDef)
            ]
            if not wrappers or any(node.params.star_kwarg is None for node in wrappers):
                return False
        return True

    # --- what is the same on every rank -----------------------------------------------------------------------

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
                    item for item in ancestor.items if _last_name(item.item) == "suppress" and self._in_loop(ancestor)
                )
            elif isinstance(ancestor, cst.For) and child is ancestor.body:
                yield from self._uncertain_ends(ancestor.body)
            elif isinstance(ancestor, cst.IndentedBlock):
                yield from self._uncertain_exits(ancestor, child)
                if isinstance(self.tree.parents[ancestor], cst.While):
                    yield from self._uncertain_ends(ancestor)
            elif isinstance(ancestor, cst.FunctionDef):
                if through_callers and ancestor not in seen:
                    for call, _ in self.uses_of_function(ancestor)[0]:
                        if not self.without_gradients(call):
                            yield from self._uncertain(call, True, seen | {ancestor})
                return
            child = ancestor

    def _in_loop(self, node: cst.CSTNode, seen: frozenset[cst.CSTNode] = frozenset()) -> bool:
        for ancestor in self.tree.ancestors(node):
            if isinstance(ancestor, cst.For | cst.While):
                return True
            if isinstance(ancestor, cst.FunctionDef):
                calls = self.uses_of_function(ancestor)[0] if ancestor not in seen else []
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
            if self._holds_settings(name, owner):
                return True
            return all(self._binding_agrees(name, binding, owner) for binding in owner.bindings[name])
        finally:
            self._asked.discard(key)

    def _holds_settings(self, name: str, owner: Scope) -> bool:
        """Whether a name is the config, one that cannot be given a field, or parsed arguments."""
        bindings = owner.bindings[name]
        if self._is_config(name, owner) or _is_parsed_arguments(bindings):
            return True
        unusable = self._unusable.name.value if self._unusable is not None else None
        return unusable is not None and all(self._makes_instance(binding, unusable) for binding in bindings)

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
        if isinstance(iterated, cst.Call) and _last_name(iterated.func) in ("range", "trange"):
            return all(self.agrees(argument.value, scope) for argument in iterated.args if argument.keyword is None)
        return True

    def _parameter_agrees(self, parameter: cst.Param, scope: Scope) -> bool:
        function = scope.node
        if not isinstance(function, cst.FunctionDef):
            return False
        passed = self.passed(function, parameter.name.value)
        return bool(passed) and all(self.agrees(value, at) for value, at in passed)

    def _attribute_agrees(self, node: cst.Attribute, scope: Scope) -> bool:
        name = dotted_name(node)
        if name is None or RANK_NAME.fullmatch(node.attr.value):
            return False
        if node.attr.value in AGREEING_ATTRIBUTES:
            return True
        config = self.config_expression(scope)
        if config is not None and name.startswith(f"{config}."):
            return self._writes_agree(node.attr.value)
        first = name.split(".")[0]
        owner = scope.owner(first)
        if owner is None:
            return False
        if self._holds_settings(first, owner):
            return self._writes_agree(node.attr.value)
        if node.attr.value.isupper() and all(binding.kind == "import" for binding in owner.bindings[first]):
            return True
        holder = scope.function().enclosing_class()
        if holder is None or name.count(".") != 1 or first != first_parameter(scope.function()):
            return False
        assigned = self._self_attributes(holder).get(node.attr.value, [])
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
                values = self.passed(owner.node, name.value)
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


def argument_for(function: cst.FunctionDef, call: cst.Call, name: str, *, is_method: bool) -> cst.BaseExpression | None:
    """The expression that a call passes for a parameter, or None where it is omitted or cannot be told."""
    for argument in call.args:
        if argument.keyword is not None and argument.keyword.value == name:
            return argument.value
    positional = [item.name.value for item in [*function.params.posonly_params, *function.params.params]]
    positional = positional[1:] if is_method and isinstance(call.func, cst.Attribute) else positional
    for parameter, argument in zip(positional, call.args, strict=False):
        if argument.keyword is not None or argument.star:
            return None
        if parameter == name:
            return argument.value
    return None


def _dataclasses(root: Scope) -> Iterator[cst.ClassDef]:
    for bindings in root.bindings.values():
        for binding in bindings:
            if isinstance(binding.node, cst.ClassDef) and any(
                _last_name(item.decorator) == "dataclass" for item in binding.node.decorators
            ):
                yield binding.node


def _annotated_fields(node: cst.ClassDef) -> Iterator[cst.AnnAssign]:
    for statement in node.body.body:
        for part in getattr(statement, "body", ()) if isinstance(statement, cst.SimpleStatementLine) else ():
            if isinstance(part, cst.AnnAssign) and isinstance(part.target, cst.Name):
                yield part


def _field_names(node: cst.ClassDef) -> Iterator[str]:
    for part in _annotated_fields(node):
        yield cst.ensure_type(part.target, cst.Name).value


def _is_true(decorator: cst.Decorator, keyword: str) -> bool:
    call = decorator.decorator
    return isinstance(call, cst.Call) and any(
        argument.keyword is not None and argument.keyword.value == keyword and dotted_name(argument.value) == "True"
        for argument in call.args
    )


def _decorator_names(function: cst.FunctionDef) -> list[str]:
    return [_last_name(item.decorator) for item in function.decorators]


def _surely_reaches(statement: cst.CSTNode, nodes: frozenset[cst.CSTNode]) -> bool:
    """Whether one of some nodes is executed whenever a statement is, and what follows it is reached."""
    match statement:
        case cst.SimpleStatementLine() | cst.SimpleStatementSuite():
            return any(node in nodes for node in descendants(statement))
        case cst.IndentedBlock():
            return any(_surely_reaches(item, nodes) for item in statement.body) or _leaves(statement)
        case cst.If():
            return (
                statement.orelse is not None
                and _surely_reaches(statement.body, nodes)
                and _surely_reaches(statement.orelse, nodes)
            )
        case cst.With() | cst.Else() | cst.Finally() | cst.ExceptHandler():
            return _surely_reaches(statement.body, nodes)
        case cst.Try():
            parts = [statement.body, *statement.handlers]
            in_all = all(_surely_reaches(part, nodes) for part in parts)
            return in_all or (statement.finalbody is not None and _surely_reaches(statement.finalbody, nodes))
    return False


def _leaves(block: cst.IndentedBlock) -> bool:
    last = block.body[-1]
    return isinstance(last, cst.SimpleStatementLine) and isinstance(
        last.body[-1], cst.Return | cst.Raise | cst.Continue | cst.Break
    )


def _may_be_none(parameter: cst.Param) -> bool:
    """Whether a parameter's default or annotation says that it can be None."""
    if parameter.default is not None and dotted_name(parameter.default) == "None":
        return True
    node = parameter.annotation.annotation if parameter.annotation else None
    if isinstance(node, cst.SimpleString):
        return "None" in str(node.raw_value) or "Optional" in str(node.raw_value)
    return node is not None and any(
        isinstance(part, cst.Name) and part.value in ("None", "Optional") for part in descendants(node)
    )


def _annotation_names(annotation: cst.Annotation | None) -> str | None:
    """The class that an annotation names: `C`, `"C"`, `m.C`, `Optional[C]` or `C | None`."""
    node: cst.BaseExpression | None = annotation.annotation if annotation else None
    if isinstance(node, cst.Subscript) and _last_name(node.value) == "Optional":
        element = node.slice[0].slice
        node = element.value if isinstance(element, cst.Index) else None
    if isinstance(node, cst.BinaryOperation) and isinstance(node.right, cst.Name) and node.right.value == "None":
        node = node.left
    if isinstance(node, cst.SimpleString):
        return str(node.raw_value)
    return dotted_name(node) if node is not None else None


def _last_name(node: cst.CSTNode) -> str:
    if isinstance(node, cst.Call):
        node = node.func
    return (dotted_name(node) or "").rsplit(".", 1)[-1]


def first_parameter(scope: Scope, *, or_class: bool = False) -> str | None:
    """What a method calls its instance; with `or_class` also what a class method calls its class."""
    node = scope.node
    if not isinstance(node, cst.FunctionDef) or scope.parent is None or not scope.parent.is_class:
        return None
    names = _decorator_names(node)
    if "staticmethod" in names or ("classmethod" in names and not or_class):
        return None
    parameters = all_parameters(node.params)
    return parameters[0].name.value if parameters else None


def _iterated(node: cst.BaseExpression) -> set[str]:
    """The names that a `for` goes over, through `enumerate`, progress bars and the like."""
    names = {name} if (name := dotted_name(node)) else set()
    if isinstance(node, cst.Call):
        for argument in node.args:
            names |= _iterated(argument.value)
    return names


def _is_counter(name: str, target: cst.CSTNode, iterated: cst.BaseExpression) -> bool:
    while isinstance(iterated, cst.Call) and _last_name(iterated) in PROGRESS_WRAPPERS - COUNTERS and iterated.args:
        iterated = iterated.args[0].value
    if not isinstance(iterated, cst.Call):
        return False
    if _last_name(iterated) == "enumerate" and isinstance(target, cst.Tuple):
        first = target.elements[0].value
        return isinstance(first, cst.Name) and first.value == name
    return _last_name(iterated) in COUNTERS and isinstance(target, cst.Name)


def _is_parsed_arguments(bindings: list[Binding]) -> bool:
    return bool(bindings) and all(
        isinstance(binding.value, cst.Call) and _last_name(binding.value) == "parse_args" for binding in bindings
    )


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
        return _last_name(last.value) not in ("exit", "_exit", "abort", "kill")
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

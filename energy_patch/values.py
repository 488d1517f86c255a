"""What values are: which names hold the config, who calls a function, and what is the same on every rank."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import libcst as cst

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
PROGRESS_WRAPPERS = frozenset({"tqdm", "trange", "track"})
COUNTERS = frozenset({"range", "trange", "count"})


class Values:
    """Answers about one tree; nothing here edits or decides."""

    def __init__(self, tree: Tree) -> None:
        self.tree = tree
        self._asked: set[tuple[int, str]] = set()
        self._dataclasses = {node.name.value: node for node in _dataclasses(tree.root)}
        self.config_class = self._choose_config_class()
        self._fields = frozenset(_field_names(self.config_class)) if self.config_class else frozenset()
        self._instance_names = frozenset(self._annotated_instances())

    # --- the config -------------------------------------------------------------------------------------------

    def config_expression(self, scope: Scope) -> str | None:
        """How the config instance is written in a scope (`cfg`, `self.cfg`), or None where there is none."""
        inner: Scope | None = scope
        while inner is not None:
            for name in inner.bindings:
                if scope.owner(name) is inner and self._is_config(name, inner):
                    return name
            inner = inner.parent
        method = scope.function()
        owner = method.enclosing_class()
        if owner is not None and method.parent is owner:
            for target, assigned in self._self_attributes(owner).items():
                if all(self._is_config_value(value, at) for value, at in assigned):
                    return f"{_first_parameter(method)}.{target}" if _first_parameter(method) else None
        return None

    def _choose_config_class(self) -> cst.ClassDef | None:
        """The dataclass that functions take or that is built; the largest, if there are several."""
        used = [node for name, node in self._dataclasses.items() if self._is_used_as_config(name)]
        return max(used, key=lambda node: len(list(_field_names(node))), default=None)

    def _is_used_as_config(self, name: str) -> bool:
        for scope in {*self.tree.scopes.values()}:
            for bindings in scope.bindings.values():
                if any(self._makes_instance(binding, name) for binding in bindings):
                    return True
        return False

    def _makes_instance(self, binding: Binding, name: str) -> bool:
        if isinstance(binding.node, cst.Param):
            return _annotation_names(binding.node.annotation) == name
        if isinstance(binding.node, cst.AnnAssign) and _annotation_names(binding.node.annotation) == name:
            return True
        if binding.kind != "assign" or not isinstance(binding.value, cst.Call):
            return False
        call = binding.value
        mentioned = [call.func, *(argument.value for argument in call.args)]
        return any((dotted_name(node) or "").split(".")[0] == name for node in mentioned)

    def _annotated_instances(self) -> Iterator[str]:
        if self.config_class is None:
            return
        for scope in {*self.tree.scopes.values()}:
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
            return name in self._instance_names and bool(read & self._fields)
        return False

    def _is_config_value(self, value: cst.CSTNode | None, scope: Scope) -> bool:
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
                if isinstance(target, cst.Attribute) and dotted_name(target.value) == _first_parameter(scope):
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
        defined = [scope for scope in {*self.tree.scopes.values()} if scope.is_class and name in scope.bindings]
        if len(defined) != 1:
            return False
        method = at.function()
        if method.parent is owner and callee.value.value == _first_parameter(method):
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
            value = argument_for(function, call, name, is_method=self.tree.scopes[function].is_class)
            if value is not None:
                passed.append((value, at))
        return passed

    # --- what is the same on every rank -----------------------------------------------------------------------

    def uncertain_conditions(self, node: cst.CSTNode, *, through_callers: bool) -> tuple[int, ...]:
        """Lines of conditions around a node, and of early exits before it, that ranks might decide differently."""
        return tuple(sorted({self.tree.line(item) for item in self._uncertain(node, through_callers, frozenset())}))

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
            elif isinstance(ancestor, cst.IndentedBlock):
                yield from self._uncertain_exits(ancestor, child)
            elif isinstance(ancestor, cst.FunctionDef):
                if through_callers and ancestor not in seen:
                    for call, _ in self.uses_of_function(ancestor)[0]:
                        if not self.without_gradients(call):
                            yield from self._uncertain(call, True, seen | {ancestor})
                return
            child = ancestor

    def _uncertain_exits(self, block: cst.IndentedBlock, until: cst.CSTNode) -> Iterator[cst.CSTNode]:
        """`continue`, `break` and `return` before a statement of a block, under conditions that may differ."""
        for statement in block.body:
            if statement is until:
                return
            for exit_ in _exits(statement):
                for ancestor in self.tree.ancestors(exit_):
                    if isinstance(ancestor, cst.If) and not self.agrees(ancestor.test, self.tree.scopes[ancestor]):
                        yield ancestor.test
                    elif isinstance(ancestor, cst.ExceptHandler):
                        yield ancestor
                    if ancestor is statement:
                        break

    def without_gradients(self, node: cst.CSTNode) -> bool:
        """Whether a node stands under `no_grad` in its own function."""
        for ancestor in self.tree.ancestors(node):
            expressions: list[cst.CSTNode] = []
            if isinstance(ancestor, cst.With):
                expressions = [item.item for item in ancestor.items]
            elif isinstance(ancestor, cst.FunctionDef):
                expressions = [decorator.decorator for decorator in ancestor.decorators]
            for expression in expressions:
                callee = expression.func if isinstance(expression, cst.Call) else expression
                if (dotted_name(callee) or "").rsplit(".", 1)[-1] in ("no_grad", "inference_mode"):
                    return True
        return False

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
        if owner is None:
            return False
        key = (id(owner), name)
        if key in self._asked:
            return True  # a counter that is made of itself: its other bindings decide
        self._asked.add(key)
        try:
            if self._is_config(name, owner) or _is_parsed_arguments(owner.bindings[name]):
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
        if name is None:
            return False
        config = self.config_expression(scope)
        if config is not None and name.startswith(f"{config}."):
            return True
        first = name.split(".")[0]
        owner = scope.owner(first)
        if owner is None:
            return False
        if self._is_config(first, owner) or _is_parsed_arguments(owner.bindings[first]):
            return True
        if node.attr.value.isupper() and all(binding.kind == "import" for binding in owner.bindings[first]):
            return True
        holder = scope.function().enclosing_class()
        if holder is None or name.count(".") != 1 or first != _first_parameter(scope.function()):
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


def _field_names(node: cst.ClassDef) -> Iterator[str]:
    for statement in node.body.body:
        for part in getattr(statement, "body", ()) if isinstance(statement, cst.SimpleStatementLine) else ():
            if isinstance(part, cst.AnnAssign) and isinstance(part.target, cst.Name):
                yield part.target.value


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


def _first_parameter(scope: Scope) -> str | None:
    node = scope.node
    if not isinstance(node, cst.FunctionDef) or scope.parent is None or not scope.parent.is_class:
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


def _exits(node: cst.CSTNode, *, in_loop: bool = False) -> Iterator[cst.CSTNode]:
    """The exits inside a statement that leave the block it stands in."""
    if isinstance(node, cst.Return) or (isinstance(node, cst.Continue | cst.Break) and not in_loop):
        yield node
    elif not isinstance(node, cst.FunctionDef | cst.ClassDef | cst.Lambda):
        for child in children(node):
            yield from _exits(child, in_loop=in_loop or isinstance(node, cst.For | cst.While))

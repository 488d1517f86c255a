"""A module that is wrapped in DDP and then called through `.module`: its gradients are never averaged.

DDP arms its gradient hooks in its own forward. See https://github.com/moojink/openvla-oft/issues/160.
"""

from __future__ import annotations

from collections.abc import Iterator

import libcst as cst

from energy_patch.findings.script import Finding, Place, Script, is_none, returns_of
from energy_patch.findings.uses import DDP, EXCHANGES, Uses, silent_exchanges
from energy_patch.follow import Ref
from energy_patch.refusal import Refusal
from energy_patch.synchronise import follow_value
from energy_patch.syntax.tree import Binding, Scope, children, dotted_name, last_name

NO_GRADIENT = frozenset({"detach", "item", "tolist", "numpy", "argmax", "argmin", "data", "shape", "device", "dtype"})


def check(script: Script) -> Iterator[Finding]:
    if script.gpus < 2:
        return
    around: dict[Ref, list[cst.Call]] = {}
    for call in sorted(Gradients(script).calls, key=script.line):
        module = called_around(call)
        ref = script.follower.ref(module, script.tree.scopes[call]) if module is not None else None
        if ref is not None:
            around.setdefault(ref, []).append(call)
    for ref, calls in around.items():
        wrapped = list(_wrapped_at(script, ref))
        if not wrapped or not _is_left_alone(script, ref):
            continue
        module = called_around(calls[0])
        assert module is not None
        name = script.tree.text(module)
        yield script.finding(
            "around-ddp",
            calls[0],
            f"{name} is called around DDP, so its gradients are never averaged",
            f"DDP averages only after a forward through the wrapper, and {name}.module is called directly: each rank "
            f"trains its own {name}, from the same start (openvla-oft #160).",
            f"Give the module a forward that does this and call {name}(...), or average its gradients by hand before "
            "the optimiser's step.",
            (
                *(Place(script.line(call), "and here") for call in calls[1:]),
                *(Place(script.line(node), "is wrapped") for node in wrapped),
            ),
        )


def called_around(call: cst.Call) -> cst.BaseExpression | None:
    """`x` in `x.module.method(...)` and `x.module(...)`."""
    inner = call.func
    if isinstance(inner, cst.Attribute) and inner.attr.value != "module":
        inner = inner.value
    if isinstance(inner, cst.Attribute) and inner.attr.value == "module":
        return inner.value
    return None


def _wrapped_at(script: Script, ref: Ref) -> Iterator[cst.CSTNode]:
    """The statements that wrap a module, or nothing if it may also be something that is not wrapped."""
    found: list[cst.CSTNode] = []
    values = list(_origins(script, ref, frozenset()))
    for value, scope in values:
        if value is None or not _wraps(script, value, scope, 0):
            return
        found.append(value)
    yield from {script.line(node): node for node in sorted(found, key=script.line)}.values()


def _origins(script: Script, ref: Ref, seen: frozenset[Ref]) -> Iterator[tuple[cst.BaseExpression | None, Scope]]:
    """The expressions that a name's value was made by; None where one is not known. `None` itself does not count."""
    if ref in seen:
        return
    bindings = script.follower.bindings(ref)
    if not bindings:
        yield None, ref.scope
    for binding, scope in bindings:
        values: list[tuple[cst.BaseExpression, Scope]] = []
        if isinstance(binding.node, cst.Param) and isinstance(ref.scope.node, cst.FunctionDef):
            values = script.values.callers.passed(ref.scope.node, ref.name)
        elif (value := _bound_value(binding, ref.name)) is not None:
            values = [(value, scope)]
        if not values:
            yield None, scope
        for value, at in values:
            for part in _alternatives(value):
                origin = script.follower.ref(part, at)
                if is_none(part):
                    continue
                if origin is not None:
                    yield from _origins(script, origin, seen | {ref})
                elif not _wraps_itself(script, part, at, ref):
                    yield part, at


def _wraps_itself(script: Script, value: cst.BaseExpression, scope: Scope, ref: Ref) -> bool:
    """`x = x.to(device)`, `x = Head()` before `x = DDP(x)`: decided by the wrapping that follows in the same scope."""
    if _wraps(script, value, scope, 0):
        return False
    for binding, at in script.follower.bindings(ref):
        later = _bound_value(binding, ref.name)
        if at is not scope or not isinstance(later, cst.Call) or not _wraps(script, later, at, 0):
            continue
        takes_it = any(script.follower.ref(argument.value, scope) == ref for argument in later.args)
        if takes_it and script.line(later) > script.line(value) and _is_unconditional(script, binding.node):
            return True
    return False


def _bound_value(binding: Binding, name: str) -> cst.BaseExpression | None:
    """What an assignment binds a name to, also one of several side by side; None where that cannot be told."""
    if binding.kind != "assign" or binding.value is None or not _unpacks(binding.node):
        return binding.value if binding.kind == "assign" else None
    place = _place_in_target(binding.node, name)
    value = binding.value
    if place is None or not isinstance(value, cst.Tuple) or place >= len(value.elements):
        return None
    assert isinstance(binding.node, cst.Assign)
    target = binding.node.targets[0].target
    is_paired = isinstance(target, cst.Tuple) and len(target.elements) == len(value.elements)
    starred = any(isinstance(item, cst.StarredElement) for item in value.elements)
    return value.elements[place].value if is_paired and not starred and len(binding.node.targets) == 1 else None


def _is_unconditional(script: Script, node: cst.CSTNode) -> bool:
    for ancestor in script.tree.ancestors(node):
        if isinstance(ancestor, cst.FunctionDef):
            return True
        if isinstance(ancestor, cst.If | cst.IfExp | cst.For | cst.While | cst.Try):
            return False
    return True


def _alternatives(value: cst.BaseExpression) -> Iterator[cst.BaseExpression]:
    if isinstance(value, cst.IfExp):
        yield from _alternatives(value.body)
        yield from _alternatives(value.orelse)
    else:
        yield value


def _wraps(script: Script, value: cst.BaseExpression | None, scope: Scope, depth: int) -> bool:
    """Whether an expression is certainly a module in DDP, where several ranks run."""
    if isinstance(value, cst.IfExp):
        chooses_by_ranks = isinstance(value.test, cst.Call) and last_name(value.test.func) == "is_initialized"
        return chooses_by_ranks and _wraps(script, value.body, scope, depth)
    if isinstance(value, cst.Name):
        bindings = scope.resolve(value.value)
        last = max(bindings, key=lambda binding: script.line(binding.node), default=None)
        if last is None or last.kind != "assign" or _unpacks(last.node) or depth > 4:
            return False
        is_certain = _is_unconditional(script, last.node) and script.line(last.node) < script.line(value)
        return is_certain and _wraps(script, last.value, scope, depth + 1)
    if not isinstance(value, cst.Call) or depth > 4:
        return False
    function = script.callees.get(value)
    if function is not None and script.class_of(value, scope) is None:
        returned = returns_of(function)
        inner = script.inner_scope(function)
        return bool(returned) and all(_wraps(script, item.value, inner, depth + 1) for item in returned)
    return last_name(value.func) in DDP and function is None and _is_imported(value, scope)


def _is_imported(call: cst.Call, scope: Scope) -> bool:
    first = (dotted_name(call.func) or "").split(".")[0]
    bindings = scope.resolve(first)
    return bool(bindings) and all(binding.kind == "import" for binding in bindings)


def _is_left_alone(script: Script, ref: Ref) -> bool:
    """Trained by an optimiser, never called through its wrapper, never exchanged by hand, never out of sight."""
    try:
        trail = follow_value(script.tree, script.values, [ref])
    except Refusal:
        return False
    uses = Uses(script, trail.refs, trail)
    if not uses.optimised or uses.called or uses.handed:
        return False
    hidden = uses.hidden(EXCHANGES, one_rank_is_fine=False)
    return not uses.exchanged and not hidden and not silent_exchanges(script)


class Gradients:
    """The calls of a script whose results reach a `backward()` with their gradients on."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.calls: set[cst.Call] = set()
        self._visited: set[tuple[cst.CSTNode, int | None]] = set()
        for call, scope in script.tree.calls:
            if last_name(call.func) != "backward" or script.without_gradients(call):
                continue
            receiver = call.func.value if isinstance(call.func, cst.Attribute) else None
            if dotted_name(receiver or call) in ("accelerator", "fabric", "self.accelerator", "torch.autograd"):
                for argument in call.args[:1]:
                    self._visit(argument.value, scope, None)
            elif receiver is not None:
                self._visit(receiver, scope, None)

    def _visit(self, node: cst.CSTNode, scope: Scope, index: int | None) -> None:
        """Follow a value back; `index` is the element of it that counts."""
        if (node, index) in self._visited:
            return
        self._visited.add((node, index))
        match node:
            case cst.Name():
                self._name(node, scope, index)
            case cst.Call():
                self._call(node, scope, index)
            case cst.Attribute():
                if node.attr.value not in NO_GRADIENT:
                    self._visit(node.value, scope, None)
            case cst.Subscript():
                if (place := _constant_index(node)) is not None:
                    self._visit(node.value, scope, place)
            case cst.Tuple() | cst.List():
                elements = node.elements if index is None else node.elements[index : index + 1]
                for element in elements:
                    self._visit(element.value, scope, None)
            case cst.IfExp():
                self._visit(node.body, scope, index)
                self._visit(node.orelse, scope, index)
            case cst.BinaryOperation() | cst.UnaryOperation() | cst.BooleanOperation():
                for child in children(node):
                    self._visit(child, scope, None)
            case cst.NamedExpr():
                self._visit(node.value, scope, index)

    def _name(self, node: cst.Name, scope: Scope, index: int | None) -> None:
        owner = scope.owner(node.value)
        for binding in owner.bindings[node.value] if owner is not None else ():
            assert owner is not None
            if isinstance(binding.node, cst.Param) and isinstance(owner.node, cst.FunctionDef):
                for value, at in self.script.values.callers.passed(owner.node, node.value):
                    self._visit(value, at, index)
                continue
            has_gradient = binding.kind in ("assign", "augment") and not self.script.without_gradients(binding.node)
            if has_gradient and binding.value is not None:
                place = _place_in_target(binding.node, node.value)
                self._visit(binding.value, owner, index if place is None else place)

    def _call(self, call: cst.Call, scope: Scope, index: int | None) -> None:
        if isinstance(call.func, cst.Attribute) and call.func.attr.value in NO_GRADIENT:
            return
        if self.script.without_gradients(call):
            return
        self.calls.add(call)
        function = self.script.callees.get(call)
        if function is not None:
            inner = self.script.inner_scope(function)
            for statement in returns_of(function):
                value = statement.value
                if value is None or self.script.without_gradients(statement):
                    continue
                if not isinstance(value, cst.Tuple):
                    self._visit(value, inner, index)
                elif index is not None and index < len(value.elements):
                    self._visit(value.elements[index].value, inner, None)
            return
        if isinstance(call.func, cst.Attribute):
            self._visit(call.func.value, scope, None)
        for argument in call.args:
            self._visit(argument.value, scope, None)


def _constant_index(node: cst.Subscript) -> int | None:
    element = node.slice[0].slice if len(node.slice) == 1 else None
    value = element.value if isinstance(element, cst.Index) else None
    return int(value.value, 0) if isinstance(value, cst.Integer) else None


def _place_in_target(statement: cst.CSTNode, name: str) -> int | None:
    for item in statement.targets if isinstance(statement, cst.Assign) else ():
        if isinstance(item.target, cst.Tuple | cst.List):
            for place, element in enumerate(item.target.elements):
                if isinstance(element.value, cst.Name) and element.value.value == name:
                    return place
    return None


def _unpacks(node: cst.CSTNode) -> bool:
    return isinstance(node, cst.Assign) and any(isinstance(item.target, cst.Tuple | cst.List) for item in node.targets)

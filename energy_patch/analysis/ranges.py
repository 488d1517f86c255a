"""Between which bounds the results of a function lie, where its text shows it; nothing is run."""

from __future__ import annotations

from collections.abc import Mapping

import libcst as cst

from energy_patch.analysis.calls import CallGraph
from energy_patch.analysis.constants import Constant, Constants, literal
from energy_patch.analysis.flow import Flow
from energy_patch.analysis.intervals import BOUNDED, KEEPS_BOUNDS, Interval, Known, Names, bounds_of, combined, joined
from energy_patch.syntax.nodes import all_parameters, dotted_name, last_name
from energy_patch.syntax.scopes import Scope


class Ranges:
    """The values of expressions and the results of functions, as far as they are bounded in sight."""

    def __init__(self, graph: CallGraph, constants: Constants) -> None:
        self.graph = graph
        self.program = graph.program
        self.constants = constants
        self._entered: set[cst.FunctionDef] = set()

    def results(self, function: cst.FunctionDef, given: Mapping[str, Known]) -> Known:
        """What a function returns, `given` the values of some of its parameters; the others have their defaults."""
        if function in self._entered:
            return None
        names: Names = {item.name.value: None for item in all_parameters(function.params)}
        for item in all_parameters(function.params):
            if item.default is not None:
                names[item.name.value] = literal(item.default)
        scope = self.program.inside(function)
        flow = Flow(
            lambda node, known: self.value(node, known, scope),
            lambda test, known: self.truth(test, known, scope),
            {**names, **given},
            [],
        )
        self._entered.add(function)
        flow.run(function.body)
        self._entered.discard(function)
        return joined([*flow.results, *([None] if flow.goes_on else [])])

    def truth(self, test: cst.BaseExpression, names: Names, scope: Scope) -> bool | None:
        """Whether a test holds; None where that depends."""
        match test:
            case cst.UnaryOperation(operator=cst.Not()):
                inner = self.truth(test.expression, names, scope)
                return None if inner is None else not inner
            case cst.BooleanOperation():
                sides = [self.truth(item, names, scope) for item in (test.left, test.right)]
                stops = isinstance(test.operator, cst.Or)
                return stops if stops in sides else (None if None in sides else not stops)
            case cst.Comparison(comparisons=[cst.ComparisonTarget(operator=operator, comparator=other)]):
                left, right = self.value(test.left, names, scope), self.value(other, names, scope)
                if isinstance(left, Constant) and isinstance(right, Constant):
                    if isinstance(operator, cst.Equal | cst.Is):
                        return left == right
                    if isinstance(operator, cst.NotEqual | cst.IsNot):
                        return left != right
                return None
        value = self.value(test, names, scope)
        return bool(value.value) if isinstance(value, Constant) else None

    def value(self, node: cst.BaseExpression, names: Names, scope: Scope) -> Known:
        """What an expression can be, by the values of the names in it."""
        if isinstance(node, cst.Name) and node.value in names:
            return names[node.value]
        match node:
            case cst.Name() | cst.Attribute():
                return literal(node) or self.constants.value(node, scope)
            case cst.Subscript():
                return self.value(node.value, names, scope)
            case cst.IfExp():
                truth = self.truth(node.test, names, scope)
                parts = [node.body] * (truth is not False) + [node.orelse] * (truth is not True)
                return joined([self.value(part, names, scope) for part in parts])
            case cst.Call():
                return self._call(node, names, scope)
            case cst.UnaryOperation(operator=cst.Minus()):
                inner = bounds_of(self.value(node.expression, names, scope))
                return Interval(-inner.high, -inner.low) if inner is not None else None
            case cst.BinaryOperation():
                left, right = (bounds_of(self.value(item, names, scope)) for item in (node.left, node.right))
                return combined(node.operator, left, right) if left is not None and right is not None else None
        return literal(node)

    def _call(self, call: cst.Call, names: Names, scope: Scope) -> Known:
        function = self.graph.callee.get(call)
        if function is not None:
            return self._entered_by(call, function, names, scope) if call not in self.graph.made else None
        name = last_name(call.func)
        if name in BOUNDED:
            return BOUNDED[name]
        layer = self._layer(call.func, scope)
        if layer is not None:
            return self._layer_call(layer, call, names, scope)
        if name not in KEEPS_BOUNDS or not isinstance(call.func, cst.Attribute):
            return None
        is_function = (dotted_name(call.func.value) or "") in ("torch", "F", "torch.nn.functional")
        held = call.args[0].value if is_function and call.args else call.func.value
        return bounds_of(self.value(held, names, scope))

    def _layer(self, callee: cst.BaseExpression, scope: Scope) -> cst.Call | None:
        """What `act(...)` or `self.act(...)` calls was made by."""
        ref = self.constants.aliases.ref(callee, scope)
        origins = self.constants.aliases.origins(ref) if ref is not None else []
        origin = origins[0] if len(origins) == 1 else None
        return origin.node if origin is not None and isinstance(origin.node, cst.Call) else None

    def _layer_call(self, layer: cst.Call, call: cst.Call, names: Names, scope: Scope) -> Known:
        if last_name(layer.func) == "Sequential" and layer.args and isinstance(layer.args[-1].value, cst.Call):
            layer = layer.args[-1].value
        if last_name(layer.func) in BOUNDED:
            return BOUNDED[last_name(layer.func)]
        made = self.graph.made.get(layer)
        forward = self.program.method(made, "forward") if made is not None else None
        return self._entered_by(call, forward, names, scope) if forward is not None else None

    def _entered_by(self, call: cst.Call, function: cst.FunctionDef, names: Names, scope: Scope) -> Known:
        given: Names = {}
        if any(item.star for item in call.args):
            given = {item.name.value: None for item in all_parameters(function.params)}
        for name, item in self.graph.bound(call, function):
            given[name] = self.value(item.value, names, scope)
        return self.results(function, given)

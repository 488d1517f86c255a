"""What is known of the names of a function behind its statements, one after the other; nothing is run.

Each name has an interval, a constant, or None for what is not bounded in sight. Where a test is decided by constants,
only that branch counts; else both do.
"""

from __future__ import annotations

from collections.abc import Callable

import libcst as cst

from energy_patch.analysis.intervals import Known, Names, bounds_of, combined, joined
from energy_patch.syntax.nodes import descendants, own_nodes

UPDATES = {
    cst.AddAssign: cst.Add(),
    cst.SubtractAssign: cst.Subtract(),
    cst.MultiplyAssign: cst.Multiply(),
    cst.DivideAssign: cst.Divide(),
}


KnownOf = Callable[[cst.BaseExpression, Names], Known]
TruthOf = Callable[[cst.BaseExpression, Names], "bool | None"]


class Flow:
    """The names' values, the results so far, and whether the statements go on."""

    def __init__(self, value_of: KnownOf, truth_of: TruthOf, names: Names, results: list[Known]) -> None:
        self._value_of = value_of
        self._truth_of = truth_of
        self.names = names
        self.results = results
        self.goes_on = True

    def run(self, body: cst.BaseSuite) -> None:
        """Follow the statements of a body, up to the first that leaves it."""
        for statement in body.body:
            for part in statement.body if isinstance(statement, cst.SimpleStatementLine) else [statement]:
                if self.goes_on:
                    self._step(part)

    def _value(self, node: cst.BaseExpression) -> Known:
        return self._value_of(node, self.names)

    def _step(self, statement: cst.CSTNode) -> None:
        match statement:
            case cst.Return():
                self.results.append(self._value(statement.value) if statement.value is not None else None)
                self.goes_on = False
            case cst.Raise():
                self.goes_on = False
            case cst.Assign():
                for target in statement.targets:
                    self._assign(target.target, statement.value)
            case cst.AnnAssign() if statement.value is not None:
                self._assign(statement.target, statement.value)
            case cst.AugAssign(target=cst.Name(value=name)):
                self.names[name] = self._updated(statement)
            case cst.If():
                self._branch(statement)
            case cst.With():
                self.run(statement.body)
            case cst.Expr():
                self._changed_in_place(statement.value)
            case _:
                self._anything(statement)

    def _assign(self, target: cst.BaseExpression, value: cst.BaseExpression) -> None:
        if isinstance(target, cst.Name):
            self.names[target.value] = self._value(value)
        else:
            self._forget(target)

    def _updated(self, statement: cst.AugAssign) -> Known:
        operator = UPDATES.get(type(statement.operator))
        left, right = (bounds_of(self._value(item)) for item in (statement.target, statement.value))
        return combined(operator, left, right) if operator is not None and left and right else None

    def _branch(self, statement: cst.If) -> None:
        truth = self._truth_of(statement.test, self.names)
        ends: list[Flow] = []
        if truth is not False:
            ends.append(self._copy())
            ends[-1].run(statement.body)
        if truth is not True:
            ends.append(self._copy())
            if isinstance(statement.orelse, cst.If):
                ends[-1]._step(statement.orelse)
            elif statement.orelse is not None:
                ends[-1].run(statement.orelse.body)
        going = [end for end in ends if end.goes_on]
        self.goes_on = bool(going)
        for name in {name for end in going for name in end.names}:
            self.names[name] = joined([end.names.get(name) for end in going])

    def _copy(self) -> Flow:
        return Flow(self._value_of, self._truth_of, dict(self.names), self.results)

    def _changed_in_place(self, node: cst.BaseExpression) -> None:
        """`E.mul_(2)`."""
        if isinstance(node, cst.Call) and isinstance(node.func, cst.Attribute) and node.func.attr.value.endswith("_"):
            self._forget(node.func.value)

    def _anything(self, statement: cst.CSTNode) -> None:
        """A loop, a `try`, a definition: whatever is bound or returned in it may be anything."""
        for node in own_nodes(statement):
            match node:
                case cst.Return():
                    self.results.append(None)
                case cst.Expr():
                    self._changed_in_place(node.value)
                case cst.AssignTarget() | cst.AnnAssign() | cst.AugAssign() | cst.For() | cst.NamedExpr():
                    self._forget(node.target)
                case cst.FunctionDef() | cst.ClassDef() | cst.AsName():
                    self._forget(node.name)

    def _forget(self, target: cst.CSTNode) -> None:
        """Nothing is known any more of the names in a target."""
        for node in descendants(target):
            if isinstance(node, cst.Name):
                self.names[node.value] = None

"""A caller of the function that holds the loss, usually validation, that cannot run."""

from __future__ import annotations

import ast
from collections.abc import Iterator

import libcst as cst

from energy_patch.findings.script import Finding, Place, Script, is_none, own_nodes, returns_of
from energy_patch.syntax.tree import Scope, all_parameters, children, descendants, dotted_name

FLAGS: tuple[type[cst.CSTNode], ...] = (
    *(cst.Name, cst.UnaryOperation, cst.Not, cst.BooleanOperation, cst.And, cst.Or, cst.Comparison),
    *(cst.ComparisonTarget, cst.Integer, cst.SimpleString, cst.Equal, cst.NotEqual, cst.Is, cst.IsNot),
)
HARMLESS_DECORATORS = frozenset({"no_grad", "inference_mode", "enable_grad", "autocast"})


def check(script: Script) -> Iterator[Finding]:
    seen: set[cst.FunctionDef] = set()
    for loss, _ in script.loss:
        function = script.function_around(loss)
        if function is None:
            continue
        yield from _without_model(script, function, loss)
        if function not in seen:
            yield from _unpacking(script, function)
        seen.add(function)


# Too many or too few results


def _unpacking(script: Script, function: cst.FunctionDef) -> Iterator[Finding]:
    count = results_of(function)
    if count is None:
        return
    for call, _ in script.values.callers.uses_of_function(function)[0]:
        statement = script.tree.parents[call]
        if not isinstance(statement, cst.Assign) or _may_be_caught(script, call):
            continue
        for item in statement.targets:
            if not isinstance(item.target, cst.Tuple | cst.List):
                continue
            elements = item.target.elements
            if any(isinstance(element, cst.StarredElement) for element in elements) or len(elements) == count:
                continue
            name = function.name.value
            yield script.finding(
                "unpacking",
                call,
                f"{script.name_around(call)} unpacks {len(elements)} of the {count} results of {name}",
                "Python raises ValueError on this line when the call returns.",
                f"Unpack {count} values here, as {name} returns them.",
                tuple(Place(script.line(item), f"returns {count} values") for item in returns_of(function)[:1]),
            )


def results_of(function: cst.FunctionDef) -> int | None:
    """How many values a function returns, if all of its returns are written-out tuples of the same length."""
    if not _is_plain(function):
        return None
    if any(isinstance(node, cst.Yield) for node in own_nodes(function)):
        return None
    counts: set[int | None] = set()
    for statement in returns_of(function):
        value = statement.value
        is_plain = isinstance(value, cst.Tuple) and not any(
            isinstance(element, cst.StarredElement) for element in value.elements
        )
        counts.add(len(value.elements) if is_plain and isinstance(value, cst.Tuple) else None)
    return counts.pop() if len(counts) == 1 else None


def _is_plain(function: cst.FunctionDef) -> bool:
    """Whether calling it is calling what is written: no decorator could change arguments or results."""
    decorators = [item.decorator for item in function.decorators]
    names = [dotted_name(node.func if isinstance(node, cst.Call) else node) or "" for node in decorators]
    return function.asynchronous is None and all(name.rsplit(".", 1)[-1] in HARMLESS_DECORATORS for name in names)


# No energy model


def _without_model(script: Script, function: cst.FunctionDef, loss: cst.Call) -> Iterator[Finding]:
    parameter = _model_parameter(script, function, loss)
    if parameter is None or _loss_takes_none(script, loss) or not _is_plain(function):
        return
    name = parameter.name.value
    conditions = list(_conditions(script, function, loss))
    calls = script.values.callers.uses_of_function(function)[0]
    passed = {call: script.passed(function, call, name) for call, _ in calls}
    right = [call for call, value in passed.items() if value is not None and not is_none(value)]
    for call, scope in calls:
        if any(argument.star for argument in call.args) or _may_be_caught(script, call):
            continue
        value = passed[call]
        is_omitted = value is None and (parameter.default is None or is_none(parameter.default))
        if not is_omitted and not is_none(value):
            continue
        if not all(_is_met(script, function, test, name, call, scope, right) for test in conditions):
            continue
        where, what = script.name_around(call), function.name.value
        is_missing = value is None and parameter.default is None
        yield script.finding(
            "no-energy-model",
            call,
            f"{where} calls {what} without the energy model",
            f"Python raises TypeError here: {what} has no default for {name}."
            if is_missing
            else f"{name} is then None where {what} computes the energy loss, and None cannot be "
            "called: the run ends there.",
            f"Pass {name}={name} in this call, and take it as a parameter of {where} if it is not in scope there.",
            (Place(script.line(loss), "the loss needs it"),),
        )


def _model_parameter(script: Script, function: cst.FunctionDef, loss: cst.Call) -> cst.Param | None:
    """The parameter that the loss is given as its model, if nothing else can be under that name."""
    argument = next((item for item in loss.args if item.keyword and item.keyword.value == "energy_model"), None)
    argument = argument or (loss.args[0] if loss.args else None)
    if argument is None or argument.star or not isinstance(argument.value, cst.Name):
        return None
    scope = script.inner_scope(function)
    name = argument.value.value
    if script.tree.scopes[argument.value].owner(name) is not scope:
        return None
    bindings = scope.bindings[name]
    node = bindings[0].node if len(bindings) == 1 else None
    return node if isinstance(node, cst.Param) and not node.star else None


def _loss_takes_none(script: Script, loss: cst.Call) -> bool:
    """A loss of the user's own may do without a model; the public one does not."""
    scope = script.tree.scopes[loss]
    bindings = scope.resolve(loss.func.value) if isinstance(loss.func, cst.Name) else []
    if any(isinstance(binding.node, cst.FunctionDef) for binding in bindings):
        function = next(binding.node for binding in bindings if isinstance(binding.node, cst.FunctionDef))
        return any(is_none(node) for node in own_nodes(function)) and _mentions_none_of_model(function)
    target = script.neighbours.resolve(loss.func, scope)
    if target is None or target.definition is None:
        return False
    return any(
        isinstance(node, ast.Compare) and isinstance(node.left, ast.Name) and node.left.id.endswith("model")
        for node in ast.walk(target.definition)
    )


def _mentions_none_of_model(function: cst.FunctionDef) -> bool:
    first = all_parameters(function.params)[:1]
    return any(
        isinstance(node, cst.Comparison) and first and dotted_name(node.left) == first[0].name.value
        for node in own_nodes(function)
    )


def _may_be_caught(script: Script, node: cst.CSTNode) -> bool:
    for ancestor in script.tree.ancestors(node):
        if isinstance(ancestor, cst.FunctionDef):
            return False
        if isinstance(ancestor, cst.Try | cst.TryStar):
            return True
        if isinstance(ancestor, cst.With) and any("suppress" in script.tree.text(item) for item in ancestor.items):
            return True
    return False


def _conditions(script: Script, function: cst.FunctionDef, loss: cst.Call) -> Iterator[cst.CSTNode | None]:
    """Every test that decides whether the loss is reached; None for what is no test but may decide it, too."""
    child: cst.CSTNode = loss
    for ancestor in script.tree.ancestors(loss):
        if ancestor is function:
            return
        if isinstance(ancestor, cst.If | cst.IfExp):
            if child is not ancestor.test:
                yield ancestor.test
        elif isinstance(ancestor, cst.BooleanOperation):
            if child is ancestor.right:
                yield ancestor.left
        elif isinstance(ancestor, cst.IndentedBlock):
            for statement in ancestor.body:
                if statement is child:
                    break
                yield from _exits(script, statement)
        elif isinstance(
            ancestor,
            cst.For
            | cst.While
            | cst.Try
            | cst.TryStar
            | cst.ExceptHandler
            | cst.MatchCase
            | cst.Lambda
            | cst.CompFor
            | cst.FunctionDef
            | cst.ListComp
            | cst.GeneratorExp
            | cst.DictComp
            | cst.SetComp,
        ):
            yield None
        child = ancestor


def _exits(script: Script, statement: cst.CSTNode) -> Iterator[cst.CSTNode | None]:
    """The tests of early returns and the like in a statement before the loss."""
    for node in _without_definitions(statement):
        if not isinstance(node, cst.Return | cst.Raise | cst.Continue | cst.Break | cst.Assert):
            continue
        if isinstance(node, cst.Assert):
            continue  # where it fails, the caller fails as well
        if isinstance(node, cst.Continue | cst.Break) and any(
            isinstance(ancestor, cst.For | cst.While) for ancestor in _up_to(script, node, statement)
        ):
            continue
        tests = [item.test for item in _up_to(script, node, statement) if isinstance(item, cst.If)]
        if tests:
            yield from tests
        else:
            yield None


def _up_to(script: Script, node: cst.CSTNode, last: cst.CSTNode) -> Iterator[cst.CSTNode]:
    for ancestor in script.tree.ancestors(node):
        yield ancestor
        if ancestor is last:
            return


def _without_definitions(node: cst.CSTNode) -> Iterator[cst.CSTNode]:
    if not isinstance(node, cst.FunctionDef | cst.ClassDef):
        yield node
        for child in children(node):
            yield from _without_definitions(child)


def _is_met(
    script: Script,
    function: cst.FunctionDef,
    test: cst.CSTNode | None,
    model: str,
    call: cst.Call,
    scope: Scope,
    right: list[cst.Call],
) -> bool:
    """Whether a test comes out for this call as for one that does pass the model: the same flags, passed alike."""
    if test is None or not right:
        return False
    own = script.inner_scope(function)
    for node in descendants(test):
        if not isinstance(node, FLAGS):
            return False
        if not isinstance(node, cst.Name) or node.value in ("True", "False", "None"):
            continue
        bindings = own.bindings.get(node.value, [])
        is_parameter = len(bindings) == 1 and isinstance(bindings[0].node, cst.Param)
        if node.value == model or not is_parameter:
            return False
        value = script.passed(function, call, node.value)
        if not any(_same(script, value, scope, script.passed(function, other, node.value), other) for other in right):
            return False
    return True


def _same(
    script: Script, value: cst.BaseExpression | None, scope: Scope, other: cst.BaseExpression | None, call: cst.Call
) -> bool:
    """Both left out, the same literal, or the same field of the config."""
    if value is None or other is None:
        return value is None and other is None
    if script.tree.text(value) != script.tree.text(other):
        return False
    if isinstance(value, cst.BaseNumber | cst.SimpleString) or dotted_name(value) in ("True", "False", "None"):
        return True
    first, _, field = (dotted_name(value) or "").rpartition(".")
    configs = {script.values.config.expression(scope), script.values.config.expression(script.tree.scopes[call])}
    return bool(field) and configs == {first}

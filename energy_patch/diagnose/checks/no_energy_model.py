"""A caller of the function that holds the loss, usually validation, that passes it no energy model."""

from __future__ import annotations

from collections.abc import Iterator

import libcst as cst

from energy_patch.analysis.conditions import deciding_tests, tests_around
from energy_patch.analysis.files import ScopedCall
from energy_patch.analysis.functions import is_none, is_plain
from energy_patch.diagnose.check import Check, Example, Found, edited
from energy_patch.diagnose.examples import FUNCTION
from energy_patch.diagnose.study import Study
from energy_patch.locate.loss_calls import argument_of
from energy_patch.syntax.nodes import descendants, dotted_name, may_be_caught, own_nodes


def find(study: Study) -> Iterator[Found]:
    for loss, _ in study.loss:
        function = study.program.function_around(loss)
        if function is None or not is_plain(function) or _takes_none(study, loss):
            continue
        parameter = _model_parameter(study, function, loss)
        tests = deciding_tests(study.program, loss)
        if parameter is None or tests is None:
            continue
        for use in study.graph.callers(function):
            if _lacks_model(study, use, parameter) and _reaches(study, use, function, parameter, tests):
                yield _found(study, use[0], function, parameter, loss)


def _found(study: Study, call: cst.Call, function: cst.FunctionDef, parameter: cst.Param, loss: cst.Call) -> Found:
    where, what, name = study.name_around(call), function.name.value, parameter.name.value
    tests = [study.program.text(test) for test in tests_around(study.program, loss)]
    when = f" Where {' and '.join(f'`{test}`' for test in tests)} holds," if tests else " But"
    is_missing = parameter.default is None and study.graph.argument(call, name) is None
    return Found(
        call,
        f"{where} calls {what} without the energy model",
        f"Python raises TypeError here: {what} has no default for {name}."
        if is_missing
        else f"{name} is None in this call.{when} the loss calls it, and the run ends with a TypeError.",
        (study.place(loss, "the loss needs it"),),
        f"Pass {name}={name} in this call, and take it as a parameter of {where} if it is not in scope there.",
    )


def _model_parameter(study: Study, function: cst.FunctionDef, loss: cst.Call) -> cst.Param | None:
    """The parameter that the loss is given as its model, if nothing else can be under that name."""
    argument = argument_of(loss, "energy_model")
    scope = study.program.inside(function)
    bindings = scope.bindings.get(argument.value, []) if isinstance(argument, cst.Name) else []
    node = bindings[0].node if len(bindings) == 1 else None
    return node if isinstance(node, cst.Param) and not node.star else None


def _takes_none(study: Study, loss: cst.Call) -> bool:
    """A loss in sight that compares its model with something may do without one; the public one does not."""
    function = study.graph.callee.get(loss)
    if function is None or not function.params.params:
        return False
    model = function.params.params[0].name.value
    return any(isinstance(node, cst.Comparison) and dotted_name(node.left) == model for node in own_nodes(function))


def _lacks_model(study: Study, use: ScopedCall, parameter: cst.Param) -> bool:
    call = use[0]
    if any(argument.star for argument in call.args) or may_be_caught(call, study.program.ancestors(call)):
        return False
    value = study.graph.argument(call, parameter.name.value)
    return is_none(value) or (value is None and (parameter.default is None or is_none(parameter.default)))


def _reaches(
    study: Study, use: ScopedCall, function: cst.FunctionDef, model: cst.Param, tests: list[cst.BaseExpression]
) -> bool:
    """Whether the tests around the loss read only arguments that a call which does pass the model gives alike."""
    right = [other for other in study.graph.callers(function) if not _lacks_model(study, other, model)]
    own = study.program.inside(function).bindings
    for node in (part for test in tests for part in descendants(test)):
        if isinstance(node, cst.Attribute | cst.Call):
            return False
        if not isinstance(node, cst.Name) or node.value in ("True", "False", "None"):
            continue
        bindings = own.get(node.value, [])
        is_parameter = len(bindings) == 1 and isinstance(bindings[0].node, cst.Param)
        here = _written(study, use[0], node.value)
        alike = any(_written(study, other, node.value) == here for other, _ in right)
        if node.value == model.name.value or not is_parameter or not alike:
            return False
    return True


def _written(study: Study, call: cst.Call, name: str) -> str:
    value = study.graph.argument(call, name)
    return study.program.text(value) if value is not None else ""


CALL = "energy_loss, metrics = run_forward_pass(batch, cfg.use_l1, energy_model)\n\n"
LACKS = (CALL, "energy_loss, metrics = run_forward_pass(batch, cfg.use_l1)  # here\n\n")
NEGATIVES = ("local-negatives",)


def _silent(what: str, *edits: tuple[str, str]) -> Example:
    return Example(what, edited(FUNCTION, (LACKS[0], LACKS[1].replace("  # here", "")), *edits), NEGATIVES)


CHECK = Check(
    name="no-energy-model",
    weight=60,
    title="a caller, usually validation, passes no energy model",
    why="The function that computes the loss has `energy_model=None` as its default; validation calls it without one, "
    "and None cannot be called.",
    cure="Pass the energy model in this call too.",
    find=find,
    speaks=(
        Example("validation leaves it out", edited(FUNCTION, LACKS), NEGATIVES),
        Example(
            "there is no default",
            edited(FUNCTION, LACKS, ("energy_model=None", "energy_model")),
            NEGATIVES,
        ),
    ),
    silent=(
        Example("it is passed", FUNCTION, NEGATIVES),
        _silent("another flag is passed", ("(batch, cfg.use_l1)\n", "(batch, False)\n")),
        _silent("the loss is asked for a model", ("if use_l1:", "if use_l1 and energy_model is not None:")),
        _silent("another test decides", ("if use_l1:", "if torch.is_grad_enabled():")),
        _silent(
            "the function leaves early",
            ("    if use_l1:", "    if energy_model is None:\n        return None, {}\n    if use_l1:"),
        ),
        _silent(
            "the function finds one", ("    if use_l1:", "    energy_model = energy_model or make()\n    if use_l1:")
        ),
        _silent("arguments are spread", ("(batch, cfg.use_l1)\n", "(batch, **options)\n")),
        _silent(
            "it is caught",
            (
                "            energy_loss, metrics = run_forward_pass(batch, cfg.use_l1)\n",
                "            try:\n                energy_loss, metrics = run_forward_pass(batch, cfg.use_l1)\n"
                "            except TypeError:\n                pass\n",
            ),
        ),
    ),
)

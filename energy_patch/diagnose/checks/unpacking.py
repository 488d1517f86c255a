"""A caller of the function that holds the loss that unpacks too many or too few of its results."""

from __future__ import annotations

from collections.abc import Iterator

import libcst as cst

from energy_patch.analysis.functions import is_plain
from energy_patch.diagnose.check import Check, Example, Found, edited
from energy_patch.diagnose.examples import FUNCTION
from energy_patch.diagnose.study import Study
from energy_patch.syntax.nodes import may_be_caught, own_nodes, returns_of


def find(study: Study) -> Iterator[Found]:
    functions = dict.fromkeys(study.program.function_around(loss) for loss, _ in study.loss)
    for function in functions:
        count = results_of(function) if function is not None else None
        if function is None or count is None:
            continue
        name = function.name.value
        for call, _ in study.graph.callers(function):
            unpacked = _unpacked(study, call)
            if unpacked is None or unpacked == count or may_be_caught(call, study.program.ancestors(call)):
                continue
            yield Found(
                call,
                f"{study.name_around(call)} unpacks {unpacked} of the {count} results of {name}",
                "Python raises ValueError on this line when the call returns.",
                tuple(study.place(item, f"it returns {count} values") for item in returns_of(function)[:1]),
                f"Unpack {count} values here, as {name} returns them.",
            )


def _unpacked(study: Study, call: cst.Call) -> int | None:
    """How many names the call's result is given to."""
    statement = study.program.parents[call]
    for item in statement.targets if isinstance(statement, cst.Assign) else ():
        elements = item.target.elements if isinstance(item.target, cst.Tuple | cst.List) else ()
        if elements and not any(isinstance(element, cst.StarredElement) for element in elements):
            return len(elements)
    return None


def results_of(function: cst.FunctionDef) -> int | None:
    """How many values a function returns, if all of its returns are written-out tuples of the same length."""
    if not is_plain(function) or any(isinstance(node, cst.Yield) for node in own_nodes(function)):
        return None
    counts = {_length(statement.value) for statement in returns_of(function)}
    return counts.pop() if len(counts) == 1 else None


def _length(value: cst.BaseExpression | None) -> int | None:
    if not isinstance(value, cst.Tuple) or any(isinstance(item, cst.StarredElement) for item in value.elements):
        return None
    return len(value.elements)


TRAINS = "energy_loss, metrics = run_forward_pass(batch, cfg.use_l1, energy_model)\n    energy_loss"
NEGATIVES = ("local-negatives",)


def _silent(what: str, *edits: tuple[str, str]) -> Example:
    script = edited(
        FUNCTION, (TRAINS, f"result = {TRAINS.partition(' = ')[2]}"), ("result = run", "energy_loss, metrics = run")
    )
    return Example(what, edited(script, *edits), NEGATIVES)


CHECK = Check(
    name="unpacking",
    weight=55,
    title="a caller unpacks another number of results than the function returns",
    why="The function that computes the loss returns one value more than older callers, usually validation, expect.",
    cure="Unpack as many values as the function returns.",
    find=find,
    speaks=(
        Example(
            "too few",
            edited(
                FUNCTION,
                ("            energy_loss, metrics = run", "            (metrics,) = run"),
                ("energy_model)\n\n", "energy_model)  # here\n\n"),
            ),
            NEGATIVES,
        ),
        Example(
            "too many",
            edited(
                FUNCTION,
                ("            energy_loss, metrics = run", "            a, b, c = run"),
                ("energy_model)\n\n", "energy_model)  # here\n\n"),
            ),
            NEGATIVES,
        ),
    ),
    silent=(
        Example("as many as are returned", FUNCTION, NEGATIVES),
        _silent("a star takes the rest", ("            energy_loss, metrics = run", "            a, b, *c = run")),
        _silent("nothing is unpacked", ("            energy_loss, metrics = run", "            result = run")),
        _silent(
            "not every return is written out",
            ('    return energy_loss, {"E_pos": E_pos, "E_neg": E_neg}', "    return result"),
            ("            energy_loss, metrics = run", "            a, b, c = run"),
        ),
        _silent(
            "a decorator may change the result",
            ("def run_forward_pass", "@first_two\ndef run_forward_pass"),
            ("            energy_loss, metrics = run", "            a, b, c = run"),
        ),
    ),
)

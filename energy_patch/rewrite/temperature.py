"""One temperature for all calls of a run, one that calls pass already or the new default; and what is said of it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from energy_patch.locate.facts import ORIGINAL_TAU, Call, Caller, Facts, Temperature
from energy_patch.locate.written import Argument
from energy_patch.refusal import Refusal
from energy_patch.rewrite.draft import Draft, NewParameter
from energy_patch.strategies.base import TAU, TAU_MEASURED, Choice, Strategy

WORLD_SIZE, BATCH = 8, 3  # the example in what is said of the loss's curve


def refuse_second_temperature(draft: Draft, call: Call, tau: Temperature) -> None:
    """Refuse `--tau` where a call passes a temperature of its own, and say where to change that one.

    Raises:
        Refusal: `conflict`.
    """
    if TAU.name in draft.choice.asked:
        value = draft.choice.text(TAU)
        message = (
            f"the call already passes tau={tau.text}{_origin(tau, call)}, and --tau {value} was given too; leave "
            f"--tau out and {_change(tau, call, value)}"
        )
        raise Refusal("conflict", message, line=call.line)


def told_of_passed(draft: Draft, tau: Temperature, call: Call) -> Iterator[str]:
    """What a person should know of a call that keeps the temperature it passes."""
    given: list[str] = []
    if call.enclosing is not None and tau.origin == "parameter":
        inside = [(caller.line, _given(caller, call, tau.name)) for caller in call.enclosing.callers]
        given += [f"line {line} passes {text}" for line, text in inside if text is not None]
        given += draft.passed.given(call.enclosing.name, tau.name)
    told = f"line {call.line}: the temperature stays {tau.text}, as the call passes it{_origin(tau, call)}"
    yield "; ".join([told, *given])
    if tau.value is not None and not given and float(tau.value) > float(TAU.default):
        yield f"{_change(tau, call, repr(TAU.default))} for a lower temperature ({TAU_MEASURED})"


def passed_elsewhere(draft: Draft, call: Call) -> str | None:
    """How a call that passes no temperature reads the one that other calls of the run pass; None where it cannot."""
    shared = draft.passed.shared
    if shared is None:
        if draft.passed.found:
            others = ", ".join(f"line {line}: {tau.text}" for _, line, tau in draft.passed.found)
            draft.note(f"the calls of this run have different temperatures ({others}); line {call.line} passes none")
        return None
    path, line, tau = shared
    text = _as_read_by(draft, call, tau, is_same_file=path == draft.source.path)
    where = f"line {line}" if path == draft.source.path else f"{path.name}"
    if text is None:
        draft.note(
            f"line {call.line}: {where} passes tau={tau.text}, which cannot be read here, so that the run has two "
            "temperatures; pass it here too"
        )
        return None
    draft.note(f"line {call.line}: the temperature is {text}, as the call on {where} passes it")
    return text


def _as_read_by(draft: Draft, call: Call, tau: Temperature, *, is_same_file: bool) -> str | None:
    """The expression by which a call has another call's temperature."""
    if is_same_file and tau.origin == "constant" and tau.name in call.in_scope - call.local_names:
        return tau.name
    if is_same_file and tau.origin == "field":
        if call.config is not None:
            return f"{call.config}.{tau.name}"
        callers = call.enclosing.callers if call.enclosing is not None else ()
        if tau.value is not None and any(caller.config for caller in callers):
            return draft.parameter(call, tau.name, NewParameter(tau.name, tau.value, "float"))
    if is_same_file and tau.origin == "parameter" and _is_parameter_of(draft, tau, call):
        return tau.name
    return tau.value if tau.origin != "parameter" else None


def _is_parameter_of(draft: Draft, tau: Temperature, call: Call) -> bool:
    parameter = call.enclosing.parameter(tau.name) if call.enclosing is not None else None
    return parameter is not None and draft.source.line_of(parameter.span.start) == tau.line


def _origin(tau: Temperature, call: Call) -> str:
    """Where the value of a temperature stands, in words."""
    if tau.origin == "literal" or tau.origin == "other":
        return ""
    if tau.origin != "parameter":
        kind = "the setting " if tau.origin == "field" else ""
        return f" ({kind}{tau.name}{f' = {tau.value}' if tau.value else ''}, line {tau.line})"
    function = f" of {call.enclosing.name}" if call.enclosing is not None else ""
    default = f", {tau.value} by default" if tau.value else ""
    return f" (a parameter{function}{default}, line {tau.line})"


def _change(tau: Temperature, call: Call, value: str) -> str:
    """What to do for another temperature."""
    match tau.origin:
        case "constant" | "field" if tau.value is not None:
            return f"set {tau.name} to {value} on line {tau.line}"
        case "parameter" if call.enclosing is not None:
            return f"pass {tau.name}={value} to {call.enclosing.name}, or make it the default on line {tau.line}"
    return f"write tau={value} on line {tau.line}"


def _given(caller: Caller, call: Call, name: str) -> str | None:
    """What a caller of the function around the loss passes for a parameter."""
    assert call.enclosing is not None
    names = [item.name for item in call.enclosing.parameters.items if item.name not in ("self", "cls")]
    for index, item in enumerate(caller.arguments.items):
        is_meant = item.name == name if item.name is not None else names[index : index + 1] == [name]
        if is_meant and isinstance(item, Argument):
            return f"{name}={item.value}"
    return None


def note_temperature(draft: Draft, text: str, where: str) -> None:
    """What the temperature was, what it is, and what becomes of the curve of the loss: two lines."""
    if float(text) == ORIGINAL_TAU:
        draft.note(f"temperature: {ORIGINAL_TAU} as before, now {where} ({TAU_MEASURED})")
    else:
        draft.note(
            f"temperature: {ORIGINAL_TAU} (the original's default) becomes {text}, {where}; --tau {ORIGINAL_TAU} keeps "
            f"the old one ({TAU_MEASURED})"
        )


def note_run(draft: Draft, run: Sequence[Facts], *, logs: bool) -> None:
    """What the patch means for the whole run, said with the first of its calls; where no call changes, with each."""
    if draft.strategy.function:
        if draft.facts is next((facts for facts in run if facts.calls), None):
            draft.note(_told_of_curve(draft.strategy, draft.choice) + ("" if logs else " (--log-metrics logs them)"))
        return
    for call in draft.facts.calls:
        now = call.tau.text if call.tau is not None else f"{ORIGINAL_TAU} (the original's default)"
        draft.note(
            f"line {call.line}: the temperature stays {now}, since strategy {draft.strategy.name} does not change it; "
            f"write tau={TAU.default} into the call for a lower one ({TAU_MEASURED})"
        )


def _told_of_curve(strategy: Strategy, choice: Choice) -> str:
    """That losses before and after a patch cannot be compared, and what to look at instead."""
    now = strategy.cost(WORLD_SIZE, BATCH, 0, dict(choice.values)).negatives + 1
    return (
        f"the loss's curve jumps, since there are more candidates: {WORLD_SIZE} ranks x {BATCH} start near "
        f"ln {now} = {math.log(now):.2f} instead of ln {BATCH} = {math.log(BATCH):.2f}; compare top1 or "
        "loss_over_log_n of energy_losses.metrics.latest_metrics() instead"
    )

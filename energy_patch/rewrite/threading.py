"""From the config to the call: a parameter of the function around the call, passed where the function is called."""

from __future__ import annotations

from collections.abc import Mapping

from energy_patch.locate.facts import Caller, Function
from energy_patch.locate.written import Argument, Bracketed, listed
from energy_patch.rewrite.draft import Draft, NewParameter
from energy_patch.rewrite.insertions import append_items

Parameters = Mapping[str, NewParameter]  # by the config field that each hands on


def thread_parameters(draft: Draft) -> None:
    """Add the parameters that calls need to the functions around them, and arguments where a config is in scope."""
    functions = {call.enclosing.line: call.enclosing for call in draft.facts.calls if call.enclosing is not None}
    for line, parameters in draft.parameters.items():
        function = functions[line]
        _add_parameters(draft, function, parameters)
        for caller in function.callers:
            _pass(draft, function, caller, parameters)
        for reference in function.reference_lines:
            held = listed(f"{item.name}={item.default}" for item in parameters.values())
            draft.notes.append(
                f"line {reference}: {function.name} is mentioned here without being called; where it is called from "
                f"there, {held} holds"
            )


def _add_parameters(draft: Draft, function: Function, parameters: Parameters) -> None:
    new = [item for item in parameters.values() if function.parameter(item.name) is None]
    if new:
        draft.names.update(item.name for item in new)
        title = f"{function.name} takes {listed(item.name for item in new)}"
        holds = {item.name: item.option for item in new if item.option}
        for edit in append_items(draft.source, function.parameters, [_text(function, item) for item in new]):
            draft.add(edit, title, tunable=True, holds=holds, owner=function.name)


def _text(function: Function, parameter: NewParameter) -> str:
    """A parameter as the others of its function are written."""
    items = [item for item in function.parameters.items if getattr(item, "default", None) is not None]
    equal = getattr(items[-1], "equal", "=") if items else "="
    named = [item for item in function.parameters.items if item.name not in (None, "self", "cls")]
    if named and all(getattr(item, "annotated", False) for item in named):
        return f"{parameter.name}: {parameter.annotation} = {parameter.default}"
    return f"{parameter.name}{equal}{parameter.default}"


def _pass(draft: Draft, function: Function, caller: Caller, parameters: Parameters) -> None:
    given = {item.name for item in caller.arguments.items}
    in_reach = caller.config is not None or caller.is_recursive
    missing = {field: item for field, item in parameters.items() if item.name not in given}
    where = f"line {caller.line}: {caller.within} calls {function.name}"
    for name, default in ((item.name, item.default) for item in parameters.values()):
        if name in given:
            draft.notes.append(f"{where} and passes its own {name}, as before")
        elif not in_reach:
            draft.notes.append(f"{where} without a config in scope, so {name}={default} holds there")
    if not missing or not in_reach:
        return
    equal = _equal_sign(draft, caller.arguments)
    values = {
        field: item.name if caller.is_recursive else f"{caller.config}.{field}" for field, item in missing.items()
    }
    texts = [f"{item.name}{equal}{values[field]}" for field, item in missing.items()]
    for edit in append_items(draft.source, caller.arguments, texts):
        draft.add(edit, f"{caller.within} passes {listed(texts)}")


def _equal_sign(draft: Draft, arguments: Bracketed) -> str:
    """How a call writes the sign between a keyword and its value."""
    keywords = [item for item in arguments.items if isinstance(item, Argument) and item.name is not None]
    if not keywords:
        return "="
    last = keywords[-1]
    after_name = last.span.start + len(last.name or "")
    gap = draft.source.text[after_name : last.span.end - len(last.value)]
    return gap if gap.strip(" ") == "=" else "="

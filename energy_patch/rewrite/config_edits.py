"""The values of a strategy's options: config fields, new or the user's own, and literals where there is no config."""

from __future__ import annotations

from energy_patch.locate.facts import Call, ConfigField
from energy_patch.refusal import Refusal
from energy_patch.rewrite.draft import Draft
from energy_patch.rewrite.insertions import line_edit, replace_default
from energy_patch.rewrite.temperature import (
    note_temperature,
    passed_elsewhere,
    refuse_second_temperature,
    told_of_passed,
)
from energy_patch.strategies.base import TAU, Option
from energy_patch.strategies.registry import strategies


def config_value(draft: Draft, call: Call, keyword: str, name: str) -> str:
    """A field that the user's config already has, as the call can read it.

    Raises:
        Refusal: `not-found`, where no config with that field is in scope.
    """
    config = draft.facts.config
    callers = call.enclosing.callers if call.enclosing is not None else ()
    in_reach = call.config is not None or (callers and all(caller.config for caller in callers))
    if config is None or config.field(name) is None or not in_reach:
        others = [item.name for item in strategies().values() if item.function and not item.config_values]
        message = (
            f"strategy {draft.strategy.name} decides by the configured {name}, and no config with a field {name} is "
            f"in scope here or at every call of this function; take strategy {' or '.join(others)}"
        )
        raise Refusal("not-found", message, line=call.line)
    if call.config is not None:
        return f"{call.config}.{name}"
    return draft.parameter(call, name, f"energy_{keyword}", "None")


def option_value(draft: Draft, call: Call, option: Option) -> str | None:
    """The expression that a call hands to the loss for an option; None where it hands none.

    Raises:
        Refusal: `conflict`, where the script's own value and the command line's contradict each other.
    """
    if option.kind != "field" or (option.only_when_given and not draft.choice.has(option)):
        return None
    if option == TAU and call.tau is not None:
        refuse_second_temperature(draft, call, call.tau)
        for told in told_of_passed(call.tau, call):
            draft.note(told)
        return None
    if option == TAU and (passed := passed_elsewhere(draft, call)) is not None:
        return passed
    return _field_value(draft, call, option)


def _field_value(draft: Draft, call: Call, option: Option) -> str:
    """A config field as the call can read it: directly, through a parameter, or as a literal without a config."""
    text, literal = draft.choice.text(option), repr(draft.choice.value(option))
    config = draft.facts.config
    existing = config.field(option.field) if config is not None else None
    reachable = call.config is not None or (
        call.enclosing is not None and any(caller.config for caller in call.enclosing.callers)
    )
    if existing is not None:
        _reuse(draft, existing, option)
        text = literal = existing.number or literal
    if config is None or not reachable:
        _note(draft, option, text, "a literal at the call, since no config is in scope")
        return text
    if existing is None:
        draft.new_fields[option.field] = (option, text)
        _note(draft, option, text, f"the default of the config field {option.field}")
    if call.config is not None:
        return f"{call.config}.{option.field}"
    return draft.parameter(call, option.field, option.field, literal)


def _note(draft: Draft, option: Option, text: str, where: str) -> None:
    if option == TAU:
        note_temperature(draft, text, where)


def _reuse(draft: Draft, existing: ConfigField, option: Option) -> None:
    wanted = {"float": ("float", "int"), "int": ("int",), "str": ("str",)}[type(option.default).__name__]
    if existing.annotation.strip("\"'") not in wanted:
        message = (
            f"the config already has a field {existing.name}: {existing.annotation}, which is no "
            f"{wanted[0]}; give it another name"
        )
        raise Refusal("conflict", message, line=existing.line)
    value = draft.choice.value(option)
    if option.name in draft.choice.asked and existing.default != repr(value):
        message = (
            f"the config already has {existing.name} = {existing.default}, and {option.flag} {value} was given; "
            f"change the field, or leave {option.flag} out"
        )
        raise Refusal("conflict", message, line=existing.line)
    draft.note(f"line {existing.line}: the config's own field {existing.name} = {existing.default} is used")


def add_fields(draft: Draft) -> None:
    """The config class's new fields, behind its last one."""
    config = draft.facts.config
    if config is None:
        return
    draft.names.update(draft.new_fields)
    for name, (option, value) in draft.new_fields.items():
        code = f"{name}: {type(option.default).__name__} = {value}"
        column = (config.comment_column or 0) - len(config.after_fields.indent)
        gap = "  " if len(code) + 2 > column else ""
        line = f"{code.ljust(column)}{gap}# {option.comment}"
        title = f"{config.name} gains the field {name}"
        draft.add(line_edit(draft.source, config.after_fields, [line]), title, tunable=True, holds={name: option.name})


def set_defaults(draft: Draft) -> None:
    """Change the defaults of the user's own config fields that the strategy names.

    Raises:
        Refusal: `not-found`, where the config has no such field with a default.
    """
    if draft.facts.is_reached:
        return
    replaced: dict[str, str] = {}
    for option in draft.strategy.options:
        if option.kind != "default":
            continue
        existing = draft.facts.config.field(option.field) if draft.facts.config is not None else None
        value = draft.choice.text(option)
        if existing is None or existing.value is None or existing.default is None:
            message = (
                f"strategy {draft.strategy.name} sets the default of the config field {option.field}, and no "
                "config class here has that field with a default; set it where your script does"
            )
            raise Refusal("not-found", message)
        replaced[option.field] = existing.default
        if existing.default != value:
            title = f"the default of {option.field} becomes {value}, it was {existing.default}"
            edit = replace_default(draft.source, existing, value)
            draft.add(edit, title, tunable=True, holds={option.field: option.name})
    draft.notes += draft.strategy.notes(dict(draft.choice.values), replaced)

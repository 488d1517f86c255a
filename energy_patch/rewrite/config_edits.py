"""The values of a strategy's options: config fields, new or the user's own, and literals where there is no config."""

from __future__ import annotations

import re

from energy_patch.locate.facts import Call, Config, ConfigField
from energy_patch.refusal import Refusal
from energy_patch.rewrite.draft import Draft, NewParameter
from energy_patch.rewrite.insertions import line_edit, replace_default
from energy_patch.rewrite.temperature import (
    note_temperature,
    passed_elsewhere,
    refuse_second_temperature,
    told_of_passed,
)
from energy_patch.strategies.base import TAU, Option
from energy_patch.strategies.registry import strategies

OPTIONAL = re.compile(r"(?:\w+\.)?Optional\[(\w+)\]|(\w+) *\| *None|None *\| *(\w+)|(?:\w+\.)?Union\[(\w+), *None\]")


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
    return draft.parameter(call, name, NewParameter(f"energy_{keyword}", "None", "int | None"))


def option_value(draft: Draft, call: Call, option: Option) -> str | None:
    """The expression that a call hands to the loss for an option; None where it hands none.

    Raises:
        Refusal: `conflict`, where the script's own value and the command line's contradict each other.
    """
    if option.kind != "field" or (option.only_when_given and not draft.choice.has(option)):
        return None
    if option == TAU and call.tau is not None:
        refuse_second_temperature(draft, call, call.tau)
        for told in told_of_passed(draft, call.tau, call):
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
        _note_alike(draft, config, option, text)
        _note(draft, option, text, _place(config, option))
    if call.config is not None:
        return f"{call.config}.{option.field}"
    parameter = NewParameter(option.field, literal, type(option.default).__name__, option.name)
    return draft.parameter(call, option.field, parameter)


def _place(config: Config, option: Option) -> str:
    return f"the default of the {'option --' if config.is_parser else 'config field '}{option.field}"


def _note_alike(draft: Draft, config: Config, option: Option, text: str) -> None:
    """A field of the user's that means the same by its name, and its value: the loss does not read it."""
    for item in config.fields:
        if any(f"_{word}_" in f"_{item.name}_" for word in option.alike):
            draft.note(
                f"line {item.line}: the config has {item.name} = {item.default}, which the call of the loss does not "
                f"pass; the loss reads {option.field} = {text}"
            )


def _note(draft: Draft, option: Option, text: str, where: str) -> None:
    if option == TAU:
        note_temperature(draft, text, where)


def _reuse(draft: Draft, existing: ConfigField, option: Option) -> None:
    """Read a field that the config has already.

    Raises:
        Refusal: `conflict`, where it has another type, or another value than the one that was asked for.
    """
    wanted = {"float": ("float", "int"), "int": ("int",), "str": ("str",)}[type(option.default).__name__]
    kind = existing.annotation.strip("\"'")
    if existing.number is not None and (optional := OPTIONAL.fullmatch(kind)) is not None:
        kind = next(filter(None, optional.groups()))
    if kind not in wanted:
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
    """The config class's new fields, behind its last one; for an argument parser its new options."""
    config = draft.facts.config
    if config is None:
        return
    draft.names.update(draft.new_fields)
    for name, (option, value) in draft.new_fields.items():
        kind = type(option.default).__name__
        if config.is_parser:
            line = f'{config.name}.add_argument("--{name}", type={kind}, default={value}, help="{option.comment}")'
            title = f"{config.name} gains the option --{name}"
        else:
            line = _field_line(config, f"{name}: {kind} = {value}", option.comment)
            title = f"{config.name} gains the field {name}"
        holds = {_label(config, name): option.name}
        draft.add(line_edit(draft.source, config.after_fields, [line]), title, tunable=True, holds=holds)


def _field_line(config: Config, code: str, comment: str) -> str:
    """A field with its comment in the column of the others'."""
    column = (config.comment_column or 0) - len(config.after_fields.indent)
    gap = "  " if len(code) + 2 > column else ""
    return f"{code.ljust(column)}{gap}# {comment}"


def _label(config: Config, name: str) -> str:
    """What stands before the equals sign of a field's default."""
    return "default" if config.is_parser else name


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
            assert draft.facts.config is not None
            holds = {_label(draft.facts.config, option.field): option.name}
            draft.add(edit, title, tunable=True, holds=holds)
    draft.notes += draft.strategy.notes(dict(draft.choice.values), replaced)

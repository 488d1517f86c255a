"""The values that a patched script has, and which of them a new patch of it carries over."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from energy_patch.record.schema import ScriptEntry
from energy_patch.strategies.base import SWITCHES, Choice, Strategy, Value, flag_of
from energy_patch.strategies.registry import all_options
from energy_patch.unpatch.undo import Held


@dataclass(frozen=True)
class Carried:
    """What a patched script has: the options that were recorded, and the values that the user set in the script.

    `fields` are those in config fields, defaults and calls, by option; `parameters` those that a function's parameter
    has apart from them, by function and option; `lost` are values that nothing can carry over.
    """

    recorded: Mapping[str, Value]
    fields: Mapping[str, Held]
    parameters: Mapping[tuple[str, str], Held]
    lost: tuple[Held, ...] = ()

    @property
    def now(self) -> dict[str, Value]:
        """Each option's value as it stands in the script; a text where it is no literal."""
        own = {name: value_of(name, item.value) for name, item in self.fields.items()}
        texts = {name: item.value for name, item in self.fields.items()}
        return {**self.recorded, **{name: texts[name] if value is None else value for name, value in own.items()}}

    def choice(self, strategy: Strategy, given: Mapping[str, Value]) -> Choice:
        """How a strategy's options are set: the command line before the script, and the script before the record."""
        values = {name: value for name, value in self.recorded.items() if strategy.option(name) is not None}
        kept = {name: item.value for name, item in self.fields.items() if is_kept(name, strategy, given)}
        literals = {name: value_of(name, text) for name, text in kept.items()}
        values |= {name: value for name, value in literals.items() if value is not None}
        return Choice(
            values=dict(sorted({**values, **given}.items())),
            texts=kept,
            asked=frozenset(given),
            parameters={
                key: item.value for key, item in self.parameters.items() if is_kept(item.option, strategy, given)
            },
        )


def carried(entry: ScriptEntry, held: Sequence[Held]) -> Carried:
    """What an entry's options and the values in its script amount to."""
    fields: dict[str, Held] = {}
    lost: list[Held] = []
    for item in held:
        if item.owner or not item.option:
            continue
        if value_of(item.option, item.value) != _expected(entry, item.option):
            kept = fields.setdefault(item.option, item)
            lost += [item] if kept.value != item.value else []
    now = Carried(entry.options, fields, {}).now
    of_functions = [item for item in held if item.owner and item.option]
    parameters = {(item.owner, item.option): item for item in of_functions if _is_apart(entry, item, now)}
    lost += [item for item in held if item.is_tuned and not item.option]
    return Carried(entry.options, fields, parameters, tuple(lost))


def is_kept(name: str, strategy: Strategy, given: Mapping[str, Value]) -> bool:
    """Whether a value that the user set stays: the strategy has the option, and the command line does not name it."""
    return strategy.option(name) is not None and name not in given


def value_of(name: str, text: str) -> Value | None:
    """The value that a text is a literal of; None where it is none that the option could have."""
    option = all_options()[name]
    found: object
    try:
        found = ast.literal_eval(text)
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return None
    if isinstance(option.default, float) and isinstance(found, int) and not isinstance(found, bool):
        found = float(found)
    if not isinstance(found, str | int | float) or type(found) is not type(option.default):
        return None
    return found if option.fault(found) is None else None


def _is_apart(entry: ScriptEntry, item: Held, now: Mapping[str, Value]) -> bool:
    """Whether a parameter's default is neither what `apply` wrote nor what follows from the config's value."""
    expected = _expected(entry, item.option)
    return value_of(item.option, item.value) not in (expected, now.get(item.option, expected))


def _expected(entry: ScriptEntry, name: str) -> Value | None:
    """The value that `apply` wrote, unless the user changed it. None for an option that no strategy has any more."""
    option = all_options().get(name)
    return None if option is None else entry.options.get(name, option.default)


def notes(before: Carried, strategy: Strategy, given: Mapping[str, Value]) -> Iterator[str]:
    """What becomes of the values that a patched script has."""
    for item in [*before.fields.values(), *before.parameters.values()]:
        name = item.option
        if name in given:
            yield f"{flag_of(name)} {given[name]} replaces {item} of the script"
        elif strategy.option(name) is not None:
            recorded = None if item.owner else before.recorded.get(name)
            instead = f", not the {recorded} that apply was given" if recorded is not None else ""
            yield f"{item}, which you set in the script, is kept{instead}"
        else:
            yield f"{item}, which you had set in the script, is gone: strategy {strategy.name} has no {flag_of(name)}"
    yield from (f"{item}, which you had set in the script, is gone" for item in before.lost)
    for name, value in before.recorded.items():
        if name in given or name in before.fields or name in SWITCHES:
            continue
        if strategy.option(name) is None:
            yield f"{flag_of(name)} {value} is gone: strategy {strategy.name} has no such option"
        else:
            yield f"{flag_of(name)} {value} is kept"

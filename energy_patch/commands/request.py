"""What the user asked `apply` for, and what follows from it on a script that is patched already."""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from energy_patch.record.schema import ScriptEntry
from energy_patch.refusal import Refusal, WrongUse
from energy_patch.strategies.base import LOG_METRICS, NO_SYNC, SWITCHES, Choice, Strategy, Value, flag_of
from energy_patch.strategies.registry import DEFAULT, all_options, strategies
from energy_patch.unpatch.undo import Held


@dataclass(frozen=True)
class Request:
    """What the command line says.

    `given` holds the strategy's options that were named, by name; `synchronise` is None where it says neither `--sync`
    nor `--no-sync`, and `logs` likewise for `--log-metrics`.
    """

    strategy: str | None = None
    given: dict[str, Value] = field(default_factory=dict)
    synchronise: bool | None = None
    logs: bool | None = None


@dataclass(frozen=True)
class Wanted:
    """How one script is to be patched; `is_same` if it is patched so already. `notes` say what was kept and dropped."""

    strategy: Strategy
    choice: Choice
    synchronise: bool
    logs: bool = False
    is_same: bool = False
    notes: tuple[str, ...] = ()

    @property
    def recorded(self) -> dict[str, Value]:
        """The options as the record keeps them."""
        switches = {NO_SYNC: not self.synchronise, LOG_METRICS: self.logs}
        return {**self.choice.values, **{name: 1 for name, is_on in switches.items() if is_on}}


def checked(values: Mapping[str, Value | None]) -> dict[str, Value]:
    """The strategies' options that were given, by name.

    Raises:
        WrongUse: one has a value that it cannot have.
    """
    given = {name: value for name, value in values.items() if value is not None}
    for name, value in given.items():
        if fault := all_options()[name].fault(value):
            raise WrongUse(fault)
    return given


def wanted(request: Request, entry: ScriptEntry | None, held: Sequence[Held] = ()) -> Wanted:
    """What a request means for a script: options that it does not name stay, as far as the strategy has them.

    `held` are the values that a patched script has now: one that the user tuned there comes before the recorded one,
    and the command line before both.

    Raises:
        WrongUse: the strategy does not have an option that was given.
        Refusal: `conflict`, where the script was patched with a strategy that this version does not know.
    """
    strategy = _strategy(request, entry)
    _check_given(request, strategy, entry)
    before = dict(entry.options) if entry is not None else {}
    own = {item.option: item for item in held if _is_own(item, before)}
    now = {**before, **{name: _value(name, item.value) or item.value for name, item in own.items()}}
    values = {name: value for name, value in before.items() if strategy.option(name) is not None}
    texts: dict[str, str] = {}
    for name, item in own.items():
        if strategy.option(name) is not None and name not in request.given:
            texts[name] = item.value
            value = _value(name, item.value)
            values |= {name: value} if value is not None else {}
    values |= request.given
    synchronise = NO_SYNC not in before if request.synchronise is None else request.synchronise
    logs = LOG_METRICS in before if request.logs is None else request.logs
    choice = Choice(dict(sorted(values.items())), texts, frozenset(request.given))
    if entry is None:
        return Wanted(strategy, choice, synchronise, logs)
    is_same = (
        strategy.name == entry.strategy
        and (synchronise, logs) == (NO_SYNC not in before, LOG_METRICS in before)
        and all(value == now.get(name) for name, value in request.given.items())
    )
    notes = _notes(request, strategy, entry, own, [item for item in held if item.is_tuned and not item.option])
    return Wanted(strategy, choice, synchronise, logs, is_same, () if is_same else notes)


def _is_own(item: Held, recorded: Mapping[str, Value]) -> bool:
    """Whether an option's value is the user's own: neither the one that was recorded nor the default."""
    options = [option for strategy in strategies().values() if (option := strategy.option(item.option)) is not None]
    return bool(options) and _value(item.option, item.value) != recorded.get(item.option, options[0].default)


def _strategy(request: Request, entry: ScriptEntry | None) -> Strategy:
    name = request.strategy or (entry.strategy if entry is not None else DEFAULT)
    if name not in strategies():
        message = f"was patched with strategy {name}, which this version does not have; choose one with --strategy"
        raise Refusal("conflict", message)
    return strategies()[name]


def _check_given(request: Request, strategy: Strategy, entry: ScriptEntry | None) -> None:
    for name in request.given:
        if strategy.option(name) is None:
            owners = [item.name for item in strategies().values() if item.option(name) is not None]
            is_place = request.strategy is None and entry is not None
            message = (
                f"{flag_of(name)} is not an option of strategy {strategy.name}"
                f"{', with which the script is patched' if is_place else ''} "
                f"(it has {', '.join(item.flag for item in strategy.options)}); for {flag_of(name)} add "
                f"--strategy {' or '.join(owners)}"
            )
            raise WrongUse(message)


def _value(name: str, text: str) -> Value | None:
    """The value that a text is a literal of; None where it is none that the option could have."""
    option = next(item for strategy in strategies().values() if (item := strategy.option(name)) is not None)
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


def _notes(
    request: Request, strategy: Strategy, entry: ScriptEntry, own: Mapping[str, Held], lost: Sequence[Held]
) -> tuple[str, ...]:
    """What becomes of the options that a patched script had."""
    notes = []
    if strategy.name != entry.strategy:
        notes.append(f"switched from strategy {entry.strategy} to {strategy.name}")
    for name, item in own.items():
        if name in request.given:
            notes.append(f"{flag_of(name)} {request.given[name]} replaces {item.name} = {item.value} of the script")
        elif strategy.option(name) is not None:
            recorded = entry.options.get(name)
            instead = f", not the {recorded} that apply was given" if recorded is not None else ""
            notes.append(f"{item.name} = {item.value}, which you set in the script, is kept{instead}")
        else:
            notes.append(f"{item.name} = {item.value}, which you had set in the script, is gone")
    notes += [f"{item.name} = {item.value}, which you had set in the script, is gone" for item in lost]
    for name, value in entry.options.items():
        if name in request.given or name in own or name in SWITCHES:
            continue
        if strategy.option(name) is None:
            notes.append(f"{flag_of(name)} {value} is gone: strategy {strategy.name} has no such option")
        else:
            notes.append(f"{flag_of(name)} {value} is kept")
    if NO_SYNC in entry.options and request.synchronise is None:
        notes.append("--no-sync is kept; --sync takes it back")
    return tuple(dict.fromkeys(notes))

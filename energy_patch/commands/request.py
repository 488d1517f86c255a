"""What the user asked `apply` for, and what follows from it on a script that is patched already."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from energy_patch.commands.carried import Carried, carried, notes
from energy_patch.record.schema import ScriptEntry
from energy_patch.refusal import Refusal, WrongUse
from energy_patch.strategies.base import LOG_METRICS, NO_SYNC, Choice, Strategy, Value, flag_of
from energy_patch.strategies.registry import DEFAULT, all_options, strategies
from energy_patch.unpatch.undo import Held


@dataclass(frozen=True)
class Request:
    """What the command line says.

    `given` holds the strategy's options that were named, by name; `synchronize` is None where it says neither `--sync`
    nor `--no-sync`, and `logs` likewise for `--log-metrics`.
    """

    strategy: str | None = None
    given: dict[str, Value] = field(default_factory=dict)
    synchronize: bool | None = None
    logs: bool | None = None


@dataclass(frozen=True)
class Wanted:
    """How one script is to be patched; `is_same` if it is patched so already. `notes` say what was kept and dropped."""

    strategy: Strategy
    choice: Choice
    synchronize: bool
    logs: bool = False
    is_same: bool = False
    notes: tuple[str, ...] = ()

    @property
    def recorded(self) -> dict[str, Value]:
        """The options as the record keeps them."""
        switches = {NO_SYNC: not self.synchronize, LOG_METRICS: self.logs}
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
    if entry is None:
        choice = Choice(dict(sorted(request.given.items())), {}, frozenset(request.given))
        return Wanted(strategy, choice, request.synchronize is not False, bool(request.logs))
    before = carried(entry, held)
    synchronize = NO_SYNC not in entry.options if request.synchronize is None else request.synchronize
    logs = LOG_METRICS in entry.options if request.logs is None else request.logs
    is_same = (
        strategy.name == entry.strategy
        and (synchronize, logs) == (NO_SYNC not in entry.options, LOG_METRICS in entry.options)
        and all(value == before.now.get(name) for name, value in request.given.items())
    )
    told = () if is_same else tuple(dict.fromkeys(_notes(request, strategy, entry, before)))
    return Wanted(strategy, before.choice(strategy, request.given), synchronize, logs, is_same, told)


def _notes(request: Request, strategy: Strategy, entry: ScriptEntry, before: Carried) -> Iterator[str]:
    if strategy.name != entry.strategy:
        yield f"switched from strategy {entry.strategy} to {strategy.name}"
    yield from notes(before, strategy, request.given)
    if NO_SYNC in entry.options and request.synchronize is None:
        yield "--no-sync is kept; --sync takes it back"


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

"""What `locate` found in a script: frozen facts with offsets into the original text, and no edits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from energy_patch.locate.written import Argument, Bracketed, Display, Parameter, is_number
from energy_patch.refusal import Refusal
from energy_patch.syntax.places import LinePoint, Span
from energy_patch.syntax.source import Source

ORIGINAL_LOSS = "energy_inbatch_swap_infonce"
ORIGINAL_PARAMETERS = ("energy_model", "h", "a_pos", "pad_mask", "tau", "reduce_steps")
ORIGINAL_TAU = 0.5


@dataclass(frozen=True)
class Temperature:
    """What a call passes as `tau`: as written, where its value stands, and the value where that is a number.

    The value stands in the call itself, in a `name` of the module's top level, in a parameter of the function around
    the call, in a field of the config, or where it cannot be followed (`other`); `line` is where it is given.
    """

    text: str
    origin: Literal["literal", "constant", "parameter", "field", "other"]
    line: int
    value: str | None = None
    name: str = ""


@dataclass(frozen=True)
class Call:
    """A call that resolves to the original loss.

    `config` is the expression of a config instance in scope; `before` is where a line may stand before the statement
    (None where it cannot), `before_model` where one may stand before the model is first used on the way to the call,
    `body` the start of the function around it, and `block` the chain of statement blocks around it; `enclosing` is None
    outside functions.
    `occupied` are the names in use in the function around it, `local_names` those bound between it and the top level,
    `in_scope` those that have a value when it runs. `model_bound` are the offsets at which the first argument is given
    its value, `model_exposed` those of calls that may give it another one, and `before_exposed` is `before_model` after
    the last of these; `loops` are those around the call. `rank_lines` are conditions around the call that
    name the rank. `tau` is the temperature that the call passes, if it passes one.
    """

    line: int
    function: Span
    arguments: Bracketed
    config: str | None
    before: LinePoint | None
    before_model: LinePoint | None
    body: LinePoint | None
    block: tuple[int, ...]
    enclosing: Function | None
    occupied: frozenset[str]
    local_names: frozenset[str]
    in_scope: frozenset[str]
    is_conditional: bool = False
    model_bound: tuple[int, ...] = ()
    model_exposed: tuple[int, ...] = ()
    before_exposed: LinePoint | None = None
    loops: tuple[Span, ...] = ()
    rank_lines: tuple[int, ...] = ()
    tau: Temperature | None = None

    def bound(self) -> dict[str, Argument]:
        """The arguments by the original's parameter names.

        Raises:
            Refusal: `unsupported`, where they do not bind.
        """
        bound: dict[str, Argument] = {}
        position = 0
        for argument in self.arguments.items:
            assert isinstance(argument, Argument)
            if argument.star:
                message = (
                    f"the call passes {argument.star}{argument.value}, so its arguments cannot be told apart; "
                    "write them out one by one"
                )
                raise Refusal("unsupported", message, line=self.line)
            name = argument.name
            if name is None:
                if position >= len(ORIGINAL_PARAMETERS):
                    message = f"the call passes more than the {len(ORIGINAL_PARAMETERS)} arguments of {ORIGINAL_LOSS}"
                    raise Refusal("unsupported", f"{message}; pass {', '.join(ORIGINAL_PARAMETERS)}", line=self.line)
                name = ORIGINAL_PARAMETERS[position]
                position += 1
            if name in bound or name not in ORIGINAL_PARAMETERS:
                seen = "passes twice" if name in bound else "does not have"
                message = f"the call names {name}=, which {ORIGINAL_LOSS} {seen}"
                raise Refusal("unsupported", f"{message}; pass {', '.join(ORIGINAL_PARAMETERS)}", line=self.line)
            bound[name] = argument
        missing = [name for name in ORIGINAL_PARAMETERS[:3] if name not in bound]
        if missing:
            message = f"the call does not pass {', '.join(missing)}; {ORIGINAL_LOSS} needs them"
            raise Refusal("unsupported", message, line=self.line)
        return bound


@dataclass(frozen=True)
class Caller:
    """A call of the function that holds the loss; `within` is the function that it stands in, perhaps itself."""

    line: int
    within: str
    arguments: Bracketed
    config: str | None
    is_recursive: bool = False


@dataclass(frozen=True)
class Function:
    """The function that holds a call of the loss, its signature, and who calls it in this file."""

    name: str
    line: int
    parameters: Bracketed
    callers: tuple[Caller, ...]
    reference_lines: tuple[int, ...]
    bound: frozenset[str]

    def parameter(self, name: str) -> Parameter | None:
        for item in self.parameters.items:
            if item.name == name and isinstance(item, Parameter):
                return item
        return None


@dataclass(frozen=True)
class ConfigField:
    """One field of the config class: `statement` spans `name: type = default`, `value` its default.

    The default of `field(default=0.3)` is 0.3.
    """

    name: str
    annotation: str
    default: str | None
    statement: Span
    value: Span | None
    line: int

    @property
    def number(self) -> str | None:
        """The default if it is written as a number."""
        return self.default if self.default is not None and is_number(self.default) else None


@dataclass(frozen=True)
class Config:
    """The config dataclass; new fields go to `after_fields`, their comments to `comment_column`.

    With `is_parser` it is an `ArgumentParser` of that name, and its options are the fields.
    """

    name: str
    line: int
    fields: tuple[ConfigField, ...]
    after_fields: LinePoint
    comment_column: int | None
    is_parser: bool = False

    def field(self, name: str) -> ConfigField | None:
        return next((item for item in self.fields if item.name == name), None)


@dataclass(frozen=True)
class LoneExit:
    """A place where one rank may leave an iteration by itself, and how it does so, in words; `file` if in another."""

    line: int
    what: str
    file: str = ""


@dataclass(frozen=True)
class Lead:
    """A call, in the entry script or in the module `file`, of a function that holds the loss in another file.

    `rank_lines` are conditions around it that name the rank, `passed` what it passes, by the parameter's name.
    """

    file: str
    line: int
    function: str
    rank_lines: tuple[int, ...]
    passed: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Branch:
    """A condition on a setting around a call; the loss is reached where it holds, or only where it does not."""

    line: int
    test: str
    is_reached: bool


@dataclass(frozen=True)
class LoggedEnergies:
    """Dictionaries that hold an energy which the loss returned, and displays elsewhere that have the same keys."""

    dictionaries: tuple[Display, ...] = ()
    averages: tuple[Display, ...] = ()


@dataclass(frozen=True)
class Facts:
    """All that is known of one script before anything is decided.

    `distributed` is how the script's top level names `torch.distributed`; `imports` is where imports may be added,
    `package` how `energy_losses` is written there; `identifiers` are all names in use anywhere; `warnings` are
    places where one rank may leave an iteration by itself. `leads`, with the entry script's facts, are the calls that
    lead to a loss in a module; `branches` are conditions that decide whether a run comes to the loss. `is_reached`
    marks a module that the script to be patched imports: other programs, which have no `energy_losses/` beside them,
    may import it too.
    """

    source: Source
    calls: tuple[Call, ...]
    config: Config | None
    imports: LinePoint
    package: str
    distributed: str | None
    identifiers: frozenset[str]
    warnings: tuple[LoneExit, ...] = ()
    logged: LoggedEnergies = LoggedEnergies()
    leads: tuple[Lead, ...] = ()
    branches: tuple[Branch, ...] = ()
    is_reached: bool = False

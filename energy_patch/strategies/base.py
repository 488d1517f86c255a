"""What a strategy declares about itself; the command line, the planner and `diagnose` are built from it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

FOLDER_NAME = "energy_losses"  # where a script's loss modules are copied to, beside it
Value = str | int | float
NO_SYNC, LOG_METRICS = "no_sync", "log_metrics"  # how the record keeps --no-sync and --log-metrics
SWITCHES = (NO_SYNC, LOG_METRICS)


def flag_of(name: str) -> str:
    """An option, recorded under its name, as it stands on the command line."""
    return f"--{name.replace('_', '-')}"


def options_tree(options: Mapping[str, Value]) -> dict[str, Value]:
    """Recorded options as a program reads them: a switch that is on is `true`."""
    return {name: True if name in SWITCHES else value for name, value in options.items()}


@dataclass(frozen=True)
class Option:
    """One option of the command line and what it sets.

    kind:
        `field`: a new config field called `field`, handed to the loss as `keyword`;
        `default`: the default of the user's own config field `field`;
        `variable`: the name of a variable in scope at the call, handed to the loss as `keyword`.
    `only_when_given` leaves the field out unless the option is on the command line. `alike` are words in the names of
    fields that mean the same.
    """

    flag: str
    kind: Literal["field", "default", "variable"]
    default: Value
    help: str
    field: str = ""
    keyword: str = ""
    comment: str = ""
    only_when_given: bool = False
    alike: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """How the option is recorded: `--queue-size` is `queue_size`."""
        return self.flag.removeprefix("--").replace("-", "_")

    def fault(self, value: Value) -> str | None:
        """What is wrong with a value, in words, or None."""
        if isinstance(self.default, float):
            is_fine = isinstance(value, float) and math.isfinite(value) and value > 0
            return None if is_fine else f"{self.flag} must be a positive finite number, not {value}"
        if isinstance(self.default, int):
            return None if isinstance(value, int) and value >= 1 else f"{self.flag} must be at least 1, not {value}"
        return None if str(value).isidentifier() else f"{self.flag} must be the name of a variable, not {value!r}"


@dataclass(frozen=True)
class Choice:
    """How a strategy's options are set, by option name; what is in neither mapping has its default.

    `values` are recorded; `texts` are written into the script as they are, where the user had tuned a value there, and
    `parameters` likewise where a function's parameter, by function and option, was tuned apart from the config;
    `asked` are those that the command line names.
    """

    values: Mapping[str, Value] = field(default_factory=dict)
    texts: Mapping[str, str] = field(default_factory=dict)
    asked: frozenset[str] = frozenset()
    parameters: Mapping[tuple[str, str], str] = field(default_factory=dict)

    def has(self, option: Option) -> bool:
        return option.name in self.values or option.name in self.texts

    def value(self, option: Option) -> Value:
        return self.values.get(option.name, option.default)

    def text(self, option: Option) -> str:
        """The value as it is written into a script."""
        return self.texts.get(option.name, repr(self.value(option)))


TAU = Option(
    "--tau",
    kind="field",
    default=0.07,
    help="Temperature of the InfoNCE logits; --tau 0.3 is the plan's, --tau 0.5 the original's.",
    field="energy_tau",
    keyword="tau",
    comment="Temperature of the energy model's InfoNCE loss",
    alike=("tau", "temperature"),
)
TAU_MEASURED = (
    "energies within 2 of each other need it near 0.07: held-out top-1 of 24 on the original script, patched, 8 x 3, "
    "500 steps: 0.252 at 0.5, 0.381 at 0.3, 0.844 at 0.1, 0.871 at 0.05"
)
MIN_DISTANCE = Option(
    "--min-distance",
    kind="field",
    default=0.0,
    help="Drop candidates closer than this to the row's own action (RMS over the chunk).",
    field="energy_min_distance",
    keyword="min_distance",
    comment="Candidates closer than this to the expert action (RMS) are no negatives",
    only_when_given=True,
)

NUM_NEGATIVES = Option(
    "--num-negatives",
    kind="field",
    default=8,
    help="Explicit negatives for each sample.",
    field="energy_num_negatives",
    keyword="num_negatives",
    comment="Explicit negatives for each sample of the energy loss",
    alike=("num_negatives", "n_negatives"),
)
LAYER_ACTIONS = Option(
    "--layer-actions",
    kind="variable",
    default="layer_actions",
    help="The variable that holds the actions predicted from each layer.",
    keyword="layer_actions",
)


@dataclass(frozen=True)
class Cost:
    """What a strategy costs one rank in one step, and what it gives, for W ranks x B samples.

    `negatives` are those that each sample is compared with, `evaluations` the energies computed, `gathered_bytes` the
    actions that arrive from other ranks.
    """

    negatives: int
    evaluations: int
    gathered_bytes: int


CostFormula = Callable[[int, int, int, dict[str, Value]], Cost]
Notes = Callable[[dict[str, Value], dict[str, str]], tuple[str, ...]]


def no_notes(options: dict[str, Value], replaced: dict[str, str]) -> tuple[str, ...]:
    """For a strategy that has nothing more to say."""
    return ()


@dataclass(frozen=True)
class Strategy:
    """One remedy: which loss it calls, with what, at which cost.

    `module` and `function` name the loss in `templates/energy_losses/`; both are empty for a strategy that keeps the
    original call. `positional` are the loss's leading parameters (new ones among them are options of kind `variable`),
    `renamed` says which of them carry the original's arguments under another name. `passes_world_size` hands the loss
    the number of ranks; `config_values` hands it fields that the user's config must have, as (keyword, field).
    `cost(world_size, batch, action_bytes, options)` is the formula; `advice` says in one line when to take it;
    `notes(options, replaced_defaults)` is what a user should be told after it was applied. `place` orders the list of
    all strategies in `diagnose`; `on_one_rank` says what it does for a single rank, where it does anything.
    """

    name: str
    summary: str
    advice: str
    cost: CostFormula
    module: str = ""
    function: str = ""
    positional: tuple[str, ...] = ()
    renamed: dict[str, str] = field(default_factory=dict)
    options: tuple[Option, ...] = ()
    passes_world_size: bool = False
    config_values: tuple[tuple[str, str], ...] = ()
    notes: Notes = no_notes
    place: int = 100
    on_one_rank: str = ""

    @property
    def loss(self) -> str:
        """The new loss as `module.function`; empty where the original call stays."""
        return f"{self.module}.{self.function}" if self.function else ""

    def option(self, name: str) -> Option | None:
        return next((option for option in self.options if option.name == name), None)

"""`energy_losses/patch.json`: what was done to each script, so that it can be known again and taken back.

`folder` is always the folder of the scripts, the one that holds `energy_losses/`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field

from energy_patch import __version__
from energy_patch.strategies.base import SWITCHES, Value, flag_of

FORMAT = 1


RECORD_NAME = "patch.json"


@dataclass(frozen=True)
class Region:
    """One edit as recorded: `before` stood at `start:end` of the original, `after` stands there now.

    `above` and `below` adjoin `after` in the patched text and reach to the nearest line that is not blank. `holds` maps
    the names in `after` whose value is that of an option to this option; `owner` is the function that these are
    parameters of, empty where they are none.
    """

    start: int
    end: int
    before: str
    after: str
    line: int
    above: str
    below: str
    title: str
    tunable: bool = False
    holds: Mapping[str, str] = field(default_factory=dict)
    owner: str = ""


@dataclass(frozen=True)
class ScriptEntry:
    """How one file was patched. `names` maps each identifier that the patch brought in to the number of times the
    original had it already; `loss` is the new loss as `module.function` of `energy_losses/`, empty where the original
    stays, for programs that know no strategies; `reaches` are the modules that were patched because this script imports
    them; `by_itself` marks a file that was named on the command line, which no other file's revert takes back;
    `previous` is the entry that is being replaced, while it is."""

    strategy: str
    options: Mapping[str, Value]
    original: str
    patched: str
    encoding: str
    names: Mapping[str, int]
    modules: tuple[str, ...]
    edits: tuple[Region, ...]
    loss: str = ""
    reaches: tuple[str, ...] = ()
    by_itself: bool = False
    previous: ScriptEntry | None = None


@dataclass(frozen=True)
class Record:
    """The whole file: loss modules by name with their hashes; scripts, and modules that are patched with them, by their
    path below the folder, with their entries."""

    modules: Mapping[str, str] = field(default_factory=dict)
    scripts: Mapping[str, ScriptEntry] = field(default_factory=dict)
    tool: str = __version__


def sha256(raw: bytes) -> str:
    """Hash of a script's very bytes."""
    return hashlib.sha256(raw).hexdigest()


def module_hash(raw: bytes) -> str:
    """Hash of a module with its line ends normalised: git may have converted them."""
    return sha256(raw.replace(b"\r\n", b"\n").replace(b"\r", b"\n"))


def described(entry: ScriptEntry) -> str:
    """The strategy and the options that a script was patched with."""
    options = [flag_of(name) + ("" if name in SWITCHES else f" {value}") for name, value in entry.options.items()]
    return " ".join([f"strategy {entry.strategy}", *options])

"""The temperatures that the calls of a run pass by themselves, in all of its files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from energy_patch.locate.facts import Facts, Temperature


@dataclass(frozen=True)
class PassedTemperatures:
    """What the calls of a run pass by themselves, each with its file and line."""

    found: tuple[tuple[Path, int, Temperature], ...]

    @property
    def shared(self) -> tuple[Path, int, Temperature] | None:
        """The first of them, if all mean the same."""
        kinds = {(path if item.value is None else None, item.value or item.text) for path, _, item in self.found}
        return self.found[0] if len(kinds) == 1 else None


def passed_temperatures(run: Sequence[Facts]) -> PassedTemperatures:
    """The temperatures that the calls in a run's files pass."""
    return PassedTemperatures(
        tuple((facts.source.path, call.line, call.tau) for facts in run for call in facts.calls if call.tau is not None)
    )

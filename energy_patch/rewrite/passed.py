"""The temperatures that the calls of a run pass by themselves, in all of its files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from energy_patch.locate.facts import Facts, Temperature


@dataclass(frozen=True)
class PassedTemperatures:
    """What the calls of a run pass by themselves, each with its file and line.

    `handed` is what is passed to functions that hold a call in another file: the function, the file that calls it, the
    parameter and its value.
    """

    found: tuple[tuple[Path, int, Temperature], ...]
    handed: tuple[tuple[str, str, str, str], ...] = ()

    def given(self, function: str, parameter: str) -> tuple[str, ...]:
        """What other files pass for a parameter, in words."""
        return tuple(
            f"{file} passes {parameter}={value}"
            for called, file, name, value in self.handed
            if (called, name) == (function, parameter)
        )

    @property
    def shared(self) -> tuple[Path, int, Temperature] | None:
        """The first of them, if all mean the same."""
        kinds = {(path if item.value is None else None, item.value or item.text) for path, _, item in self.found}
        return self.found[0] if len(kinds) == 1 else None


def passed_temperatures(run: Sequence[Facts]) -> PassedTemperatures:
    """The temperatures that the calls in a run's files pass."""
    found = [(facts.source.path, call.line, call.tau) for facts in run for call in facts.calls if call.tau is not None]
    handed = [
        (lead.function, lead.file or facts.source.path.name, name, value)
        for facts in run
        for lead in facts.leads
        for name, value in lead.passed
    ]
    return PassedTemperatures(tuple(found), tuple(handed))

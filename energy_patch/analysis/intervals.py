"""Bounds of numbers: what is added, scaled or chosen between lies within bounds again."""

from __future__ import annotations

from dataclasses import dataclass

import libcst as cst

from energy_patch.analysis.constants import Constant


@dataclass(frozen=True)
class Interval:
    """All numbers from `low` to `high`."""

    low: float
    high: float

    @property
    def width(self) -> float:
        return self.high - self.low

    def __or__(self, other: Interval) -> Interval:
        return Interval(min(self.low, other.low), max(self.high, other.high))


Known = Interval | Constant | None
Names = dict[str, Known]

BOUNDED = {
    **dict.fromkeys(("sigmoid", "Sigmoid", "hardsigmoid", "Hardsigmoid", "softmax", "Softmax"), Interval(0.0, 1.0)),
    **dict.fromkeys(("tanh", "Tanh", "hardtanh", "Hardtanh", "softsign", "Softsign"), Interval(-1.0, 1.0)),
    **dict.fromkeys(("cosine_similarity", "CosineSimilarity"), Interval(-1.0, 1.0)),
}
KEEPS_BOUNDS = frozenset(  # methods and functions of torch whose results lie within the bounds of their first argument
    {"mean", "view", "reshape", "squeeze", "unsqueeze", "float", "to", "flatten", "contiguous", "amax", "amin", "max"}
    | {
        "min",
        "double",
        "half",
        "bfloat16",
        "type",
        "clamp",
        "clip",
        "expand",
        "permute",
        "transpose",
        "clone",
        "median",
    }
)


def joined(values: list[Known]) -> Known:
    """What covers all of some values; None where one of them is not bounded."""
    if values and all(item == values[0] for item in values):
        return values[0]
    bounds = [bounds_of(item) for item in values]
    found = bounds[0] if bounds else None
    for item in bounds[1:]:
        found = found | item if found is not None and item is not None else None
    return found


def bounds_of(value: Known) -> Interval | None:
    if isinstance(value, Constant):
        return Interval(value.number, value.number) if value.number is not None else None
    return value


def combined(operator: cst.BaseBinaryOp, left: Interval, right: Interval) -> Interval | None:
    """The bounds of a sum, a difference, a product or a quotient."""
    match operator:
        case cst.Add():
            return Interval(left.low + right.low, left.high + right.high)
        case cst.Subtract():
            return Interval(left.low - right.high, left.high - right.low)
        case cst.Multiply():
            ends = [one * other for one in (left.low, left.high) for other in (right.low, right.high)]
            return Interval(min(ends), max(ends))
        case cst.Divide() if right.low > 0 or right.high < 0:
            ends = [one / other for one in (left.low, left.high) for other in (right.low, right.high)]
            return Interval(min(ends), max(ends))
    return None

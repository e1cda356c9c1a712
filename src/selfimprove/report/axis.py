"""The horizontal axis of a chart: where a value lies, in percent of the chart's width."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

__all__ = ["Axis", "axis"]

_STEPS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.25, 0.5, 1.0)
_MOST_INTERVALS = 5  # tick labels still fit side by side on a phone
_LEAST_SPAN = 0.1  # half a point of noise must not fill the chart


@dataclass(frozen=True, slots=True)
class Axis:
    """A linear axis with round ticks."""

    low: float
    high: float
    ticks: tuple[float, ...]

    def at(self, value: float) -> float:
        """Return where `value` lies, from 0 to 100; outside values lie on the edge."""
        share = (value - self.low) / (self.high - self.low)
        return round(100 * min(1.0, max(0.0, share)), 3)


def axis(values: Iterable[float], *, fractions: bool = True) -> Axis:
    """Return an axis that covers `values`; one of fractions stays between 0 and 1.

    >>> axis([0.41, 0.58]).ticks
    (0.4, 0.45, 0.5, 0.55, 0.6)
    """
    held = list(values) or [0.0, 1.0]
    least, most = min(held), max(held)
    if most - least < _LEAST_SPAN:
        middle = (least + most) / 2
        least, most = middle - _LEAST_SPAN / 2, middle + _LEAST_SPAN / 2
    if fractions:
        least, most = max(0.0, least), min(1.0, most)
    for step in _STEPS:
        first, last = math.floor(least / step + 1e-9), math.ceil(most / step - 1e-9)
        if last - first <= _MOST_INTERVALS:
            break
    else:
        step = (most - least) / _MOST_INTERVALS
        first, last = math.floor(least / step), math.ceil(most / step)
    ticks = tuple(round(i * step, 6) for i in range(first, last + 1))
    return Axis(ticks[0], ticks[-1], ticks)

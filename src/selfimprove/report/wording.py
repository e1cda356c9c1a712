"""How numbers and comparisons are put into words; fractions in, percent and points out."""

from __future__ import annotations

import json
from typing import Literal, TypeAlias

from selfimprove.evaluation.summary import Headline, Unit

__all__ = [
    "Verdict",
    "amount",
    "change_of",
    "count",
    "duration",
    "percent",
    "points",
    "sentence",
    "setting",
    "span",
    "verdict",
]

Verdict: TypeAlias = Literal["improved", "no improvement shown", "worse"]

_MINUS = "\N{MINUS SIGN}"


def verdict(interval: tuple[float, float]) -> Verdict:
    """Say 'improved' only where the whole interval lies above zero, 'worse' where below.

    >>> verdict((0.0, 0.2))
    'no improvement shown'
    """
    low, high = interval
    if low > 0:
        return "improved"
    return "worse" if high < 0 else "no improvement shown"


def sentence(headline: Headline) -> str:
    """State the headline in one plain sentence."""
    unit = headline.unit
    asked = f"{count(headline.n)} {'questions' if unit == 'share' else 'prompts'}"
    change = f"{change_of(headline.difference, unit)} points"
    said, interval = verdict(headline.interval), f"95% interval {span(headline.interval, unit)}"
    course = f"{_course(headline)}, {change}"
    if unit == "wins":
        course += " from an even match"
    if said == "no improvement shown":
        return f"{said.capitalize()}: {course}; the {interval} contains zero ({asked})."
    return f"{said.capitalize()}: {course} ({interval}, {asked})."


def _course(headline: Headline) -> str:
    unit = headline.unit
    what = f"{headline.metric} on {headline.set}" if headline.set else headline.metric
    if unit == "wins":
        return f"{what} is {amount(headline.after, unit)}"
    scale = "" if headline.highest is None else f" of {headline.highest:g}"
    return (
        f"{what} went from {amount(headline.before, unit)} to {amount(headline.after, unit)}{scale}"
    )


def percent(value: float | None) -> str:
    """Write a fraction as percent.

    >>> percent(0.6149)
    '61.5%'
    """
    return "–" if value is None else f"{100 * value:.1f}%"


def points(value: float | None) -> str:
    """Write a difference of two fractions in percentage points, with its sign.

    >>> points(0.12), points(0.0), points(0.0003)
    ('+12.0', '0.0', '+0.03')
    """
    if value is None:
        return "–"
    # The end of an interval beside zero must not be rounded onto it: the verdict hangs on it.
    digits = 1 if abs(value) >= 0.0005 else 2
    text = f"{100 * value:+.{digits}f}"
    return "0.0" if float(text) == 0 else text.replace("-", _MINUS)


def amount(value: float | None, unit: Unit = "share") -> str:
    """Write a measured value in its unit.

    >>> amount(0.6149), amount(4.0825, "points")
    ('61.5%', '4.08')
    """
    if unit != "points" or value is None:
        return percent(value)
    return f"{value:.2f}"


def change_of(value: float | None, unit: Unit = "share") -> str:
    """Write a difference in points: of a percentage, or of a scale of scores.

    >>> change_of(0.12), change_of(-0.736, "points")
    ('+12.0', '−0.74')
    """
    if unit != "points" or value is None:
        return points(value)
    text = f"{value:+.2f}" if abs(value) >= 0.005 else f"{value:+.3f}"
    return "0.00" if float(text) == 0 else text.replace("-", _MINUS)


def span(interval: tuple[float, float] | None, unit: Unit = "share") -> str:
    """Write an interval of a difference in points.

    >>> span((0.08, 0.16)), span((0.5, 0.8), "points")
    ('+8.0 to +16.0', '+0.50 to +0.80')
    """
    if interval is None:
        return "–"
    low, high = (change_of(end, unit) for end in interval)
    return f"{low} to {high}"


def count(value: float | None) -> str:
    """Write a count with separators, '–' where there is none.

    >>> count(1234567)
    '1,234,567'
    """
    return "–" if value is None else f"{value:,.0f}"


def duration(seconds: float | None) -> str:
    """Write a time as a person would say it.

    >>> duration(0.41), duration(75), duration(7380)
    ('0.4 s', '1 min 15 s', '2 h 3 min')
    """
    if seconds is None:
        return "–"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def setting(value: object) -> str:
    """Write a recipe's value as the recipe would.

    >>> setting("tiny"), setting(None), setting([0.7, 1])
    ('tiny', 'null', '[0.7, 1]')
    """
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)

"""Comparisons from rows that rate or rank several responses: the best one against the worst one.

A row gives one comparison, whatever the number of its responses; where the best is rated as the worst is, there is none.
Of equals the first is taken.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from selfimprove.data.row import RowError, UnusableRow, optional, text, value

__all__ = ["LISTS", "best_and_worst", "of_list", "of_preference"]

LISTS: Final = ("completions", "answers", "responses")
"""Under which name a row holds its responses, each an object with a rank or a rating."""

_TEXTS: Final = ("response", "completion", "answer", "text", "content", "output")
_RATINGS: Final = ("overall_score", "score", "rating", "pm_score")


def of_list(fields: Mapping[str, Any]) -> tuple[str, str]:
    """Return the best and the worst of a list of rated or ranked responses; rank 1, or 0, is the best.

    Raises:
        UnusableRow: all are rated alike.
        RowError: there is no such list, or one of it has neither text nor rank or rating.
    """
    found = value(fields, *LISTS)
    if not isinstance(found, Sequence) or isinstance(found, str) or len(found) < 2:
        raise RowError(f"{' or '.join(map(repr, LISTS))} is not a list of two responses or more")
    return best_and_worst([_rated(one) for one in found])


def of_preference(fields: Mapping[str, Any]) -> tuple[str, str]:
    """Return HelpSteer3's `response1` and `response2`, the preferred one first: below zero it is the first.

    Raises:
        UnusableRow: neither is preferred.
        RowError: a field is missing.
    """
    preference = _number(value(fields, "overall_preference"))
    return best_and_worst(
        [(text(fields, "response1"), -preference), (text(fields, "response2"), preference)]
    )


def best_and_worst(rated: Sequence[tuple[str, float]]) -> tuple[str, str]:
    """Return the response of the highest rating, and that of the lowest.

    Raises:
        UnusableRow: they are rated alike.
    """
    best, worst = max(rated, key=lambda one: one[1]), min(rated, key=lambda one: one[1])
    if best[1] == worst[1]:
        raise UnusableRow("rates all its responses alike")
    return best[0], worst[0]


def _rated(one: object) -> tuple[str, float]:
    if not isinstance(one, Mapping):
        raise RowError(f"holds a response that is {type(one).__name__}, not an object")
    rank = optional(one, "rank")
    rating = -_number(rank) if rank is not None else _number(value(one, *_RATINGS))
    return text(one, *_TEXTS), rating


def _number(given: object) -> float:
    try:
        return float(str(given))
    except ValueError:
        raise RowError(f"rates a response {given!r}, which is no number") from None

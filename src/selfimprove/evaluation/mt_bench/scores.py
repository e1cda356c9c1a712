"""Mean ratings by turn and by category, with intervals that resample questions."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from selfimprove.evaluation.intervals import TAILS, paired, resampled_sums
from selfimprove.evaluation.mt_bench.rows import TURNS, TwoTurns

__all__ = ["Rated", "difference", "figures"]


@dataclass(frozen=True, slots=True)
class Rated:
    """One turn of one question as it was rated."""

    question: TwoTurns
    turn: int
    """From 0."""
    score: float | None
    """From 1 to 10; None: it has none, and is in no mean."""
    unscored: str | None
    """Why it has none."""
    answer: str
    judgement: str
    """The judge's own words."""


def figures(rated: Sequence[Rated]) -> dict[str, Any]:
    """Return the mean of all, of each turn and of each category, as JSON data; None where nothing is scored."""
    categories = dict.fromkeys(r.question.category for r in rated)
    return {
        "mean": _mean(rated),
        "turns": [_mean([r for r in rated if r.turn == turn]) for turn in range(TURNS)],
        "categories": [
            {"category": c, "mean": _mean(of), "turns": [_mean([r for r in of if r.turn == t])
                                                         for t in range(TURNS)]}
            for c in categories
            for of in ([r for r in rated if r.question.category == c],)
        ],
        "unscored": dict(Counter(r.unscored for r in rated if r.unscored is not None)),
    }  # fmt: skip


def _mean(rated: Sequence[Rated]) -> dict[str, Any] | None:
    import numpy as np

    by_question: dict[str, list[float]] = defaultdict(list)
    for one in rated:
        if one.score is not None:
            by_question[one.question.id].append(one.score)
    if not by_question:
        return None
    rows = np.array([(sum(s), len(s)) for s in by_question.values()], dtype=float)
    total, count = rows.sum(axis=0)
    sums = resampled_sums(rows, "mt-bench")
    low, high = np.percentile(sums[:, 0] / sums[:, 1], TAILS)
    return {"value": float(total / count), "interval": [float(low), float(high)], "n": int(count)}


def difference(before: Sequence[Rated], after: Sequence[Rated]) -> dict[str, Any] | None:
    """Return after minus before, paired by question, over the turns that both have a score of, as JSON data.

    None: there is no such turn.
    """
    first, second = (
        {(r.question.id, r.turn): r.score for r in side if r.score is not None}
        for side in (before, after)
    )
    both: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for key in first.keys() & second.keys():
        both[key[0]].append((first[key], second[key]))
    if not both:
        return None
    means = [
        tuple(sum(side) / len(side) for side in zip(*both[q], strict=True)) for q in sorted(both)
    ]
    told = paired([m[0] for m in means], [m[1] for m in means])
    return {"difference": told.difference, "interval": [told.low, told.high], "wins": told.wins,
            "losses": told.losses, "ties": told.ties, "n": len(means)}  # fmt: skip

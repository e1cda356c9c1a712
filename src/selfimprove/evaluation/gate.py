"""The gate: a new model is promoted only when it is not worse than its parent on held-out data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from selfimprove.evaluation.accuracy import Answered, greedy_hits
from selfimprove.evaluation.intervals import paired

__all__ = ["Verdict", "compare"]


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a model took its parent's place, and on what evidence."""

    promoted: bool
    difference: float
    low: float
    high: float
    n: int
    reason: str


def compare(parent: Sequence[Answered], child: Sequence[Answered]) -> Verdict:
    """Promote the child unless its greedy chain-of-thought accuracy is below its parent's.

    Raises:
        KeyError: the two answered different questions.
    """
    before, after = greedy_hits(parent), greedy_hits(child)
    against = paired([before[q] for q in after], list(after.values()))
    promoted = against.difference >= 0
    word = "not worse than" if promoted else "worse than"
    reason = f"{word} its parent: {against.wins} questions won, {against.losses} lost"
    return Verdict(promoted, against.difference, against.low, against.high, len(after), reason)

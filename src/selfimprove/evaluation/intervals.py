"""Means and paired differences with 95 % intervals over questions.

A share of right answers gets Wilson's interval, which stays honest at 0 and 1, where a bootstrap
has no width. Everything else, paired differences above all, is bootstrapped by percentiles.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

from selfimprove.seeds import seed_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["TAILS", "Estimate", "Paired", "mean", "over_seeds", "paired", "resampled_sums"]

_RESAMPLES: Final = 10_000
_AT_ONCE: Final = 500
_LEVEL: Final = 0.95
TAILS: Final = (2.5, 97.5)
"""Percentiles that bound an interval of 95 %."""


class Estimate(NamedTuple):
    """A mean with its interval."""

    value: float
    low: float
    high: float
    n: int


class Paired(NamedTuple):
    """The mean difference of two systems on the same questions."""

    difference: float
    low: float
    high: float
    wins: int
    losses: int
    ties: int


def mean(values: Sequence[float]) -> Estimate:
    """Return the mean of one value a question, with its interval.

    Raises:
        ValueError: there are no values.
    """
    if not values:
        raise ValueError("no values to average")
    low, high = _wilson(values) if set(values) <= {0.0, 1.0} else _bootstrap(values)
    return Estimate(sum(values) / len(values), low, high, len(values))


def paired(before: Sequence[float], after: Sequence[float]) -> Paired:
    """Return after minus before over the same questions, in the same order.

    Questions, not answers, are resampled: pairing removes the questions' own difficulty.

    Raises:
        ValueError: the sequences are empty or of different lengths.
    """
    if not before or len(before) != len(after):
        raise ValueError(f"cannot pair {len(before)} values with {len(after)}")
    differences = [a - b for a, b in zip(after, before, strict=True)]
    low, high = _bootstrap(differences)
    wins = sum(d > 0 for d in differences)
    losses = sum(d < 0 for d in differences)
    ties = len(differences) - wins - losses
    return Paired(sum(differences) / len(differences), low, high, wins, losses, ties)


def over_seeds(values: Sequence[float]) -> Estimate:
    """Return the mean of one value a run of the same recipe, with Student's interval.

    A handful of runs is too few to resample: a bootstrap of three would be far too narrow.

    >>> [round(x, 3) for x in over_seeds([1.0, 2.0, 3.0])]
    [2.0, -0.484, 4.484, 3]

    Raises:
        ValueError: there are fewer than two values, which say nothing of how seeds differ.
    """
    import statistics

    from scipy.stats import t

    count = len(values)
    if count < 2:
        raise ValueError("one value says nothing of how seeds differ")
    middle = statistics.fmean(values)
    reach = float(t.ppf((1 + _LEVEL) / 2, count - 1)) * statistics.stdev(values) / count**0.5
    return Estimate(middle, middle - reach, middle + reach, count)


def _wilson(values: Sequence[float]) -> tuple[float, float]:
    from scipy.stats import binomtest

    found = binomtest(int(sum(values)), len(values)).proportion_ci(_LEVEL, method="wilson")
    return float(found.low), float(found.high)


def _bootstrap(values: Sequence[float]) -> tuple[float, float]:
    import numpy as np

    if len(set(values)) == 1:  # nothing to resample
        return values[0], values[0]
    sums = resampled_sums(np.array(values, dtype=float)[:, None], "bootstrap")
    low, high = np.percentile(sums[:, 0] / len(values), TAILS)
    return float(low), float(high)


def resampled_sums(rows: NDArray[np.float64], stream: str) -> NDArray[np.float64]:
    """Return the sum of the rows of each of 10,000 bootstrap samples, (samples, columns).

    How often a sample holds each distinct row is multinomial: drawn at once, not row by row.

    Args:
        rows: (things, columns): what is resampled, and what is summed of each.
        stream: names the random numbers.
    """
    import numpy as np

    count = len(rows)
    distinct, first, times = np.unique(rows, axis=0, return_index=True, return_counts=True)
    # In the order they are met: rows of the opposite sign get the opposite sums.
    met = np.argsort(first)
    distinct, times = distinct[met], times[met]
    generator = np.random.default_rng(seed_of(0, stream, count))
    drawn = (
        generator.multinomial(count, times / count, size=_AT_ONCE) @ distinct
        for _ in range(_RESAMPLES // _AT_ONCE)
    )
    return np.concatenate(list(drawn))

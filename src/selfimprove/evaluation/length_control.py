"""The win rate two systems would have if their responses were equally long.

A logistic regression of the preference on an intercept and on tanh of the standardised difference
in length, read off where that difference is zero: the length term of AlpacaEval 2's length-controlled
win rate, without its term for each instruction's difficulty, which needs a whole leaderboard.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["length_controlled_rates"]

_STEPS: Final = 25
_RIDGE: Final = 1e-2
"""Keeps the fit finite where one side wins everything or length tells it all."""


def length_controlled_rates(
    preferences: NDArray[np.float64],
    longer_by: NDArray[np.float64],
    weights: NDArray[np.float64],
) -> tuple[float, tuple[float, float]]:
    """Return the rate at equal length, and its 95 % interval over weighted fits.

    Args:
        preferences: (matches,) share of each win that goes to the first system.
        longer_by: (matches,) by how much its response is the longer one, in any unit.
        weights: (resamples, matches) how often each bootstrap sample holds each match.
    """
    import numpy as np

    spread = float(longer_by.std())
    feature = np.tanh(longer_by / spread) if spread > 0 else np.zeros_like(longer_by)
    rows = np.vstack([np.ones_like(preferences)[None], weights])
    rates = _at_zero(preferences, feature, rows)
    low, high = np.percentile(rates[1:], (2.5, 97.5))
    return float(rates[0]), (float(low), float(high))


def _at_zero(
    preferences: NDArray[np.float64], feature: NDArray[np.float64], weights: NDArray[np.float64]
) -> NDArray[Any]:
    """Fit intercept and slope for every row of weights by Newton's method; return sigma(intercept)."""
    import numpy as np

    intercept, slope = np.zeros(len(weights)), np.zeros(len(weights))
    for _ in range(_STEPS):
        chance = 1 / (1 + np.exp(-(intercept[:, None] + slope[:, None] * feature)))
        error = weights * (preferences - chance)
        curve = weights * chance * (1 - chance)
        grad_0 = error.sum(1) - _RIDGE * intercept
        grad_1 = error @ feature - _RIDGE * slope
        h_00, h_01 = curve.sum(1) + _RIDGE, curve @ feature
        h_11 = curve @ feature**2 + _RIDGE
        determinant = h_00 * h_11 - h_01**2
        step_0 = (h_11 * grad_0 - h_01 * grad_1) / determinant
        step_1 = (h_00 * grad_1 - h_01 * grad_0) / determinant
        # Far from the optimum a full Newton step overshoots.
        intercept += np.clip(step_0, -2, 2)
        slope += np.clip(step_1, -2, 2)
    rates: NDArray[Any] = 1 / (1 + np.exp(-intercept))
    return rates

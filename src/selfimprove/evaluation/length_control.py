"""The win rate two systems would have if their responses were equally long.

A logistic regression of the preference on an intercept and on tanh of the standardised difference
in length, read off where that difference is zero: the length term of AlpacaEval 2's length-controlled
win rate, without its term for each instruction's difficulty, which needs a whole leaderboard.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from selfimprove.evaluation.intervals import TAILS

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["length_controlled_rates"]

_STEPS: Final = 50
_LEAP: Final = 2.0
_CLOSE: Final = 1e-7
_RIDGE: Final = 1e-2
"""Keeps the fit finite where one side wins everything or length tells it all."""


def length_controlled_rates(
    preferences: NDArray[np.float64],
    longer_by: NDArray[np.float64],
    weights: Iterable[NDArray[np.float64]],
) -> tuple[float, tuple[float, float]]:
    """Return the rate at equal length, and its 95 % interval over weighted fits.

    Args:
        preferences: (matches,) share of each win that goes to the first system.
        longer_by: (matches,) by how much its response is the longer one, in any unit.
        weights: blocks of (resamples, matches): how often each bootstrap sample holds each match.
    """
    import numpy as np

    spread = float(longer_by.std())
    feature = np.tanh(longer_by / spread) if spread > 0 else np.zeros_like(longer_by)
    whole = _fit(preferences, feature, np.ones((1, len(preferences))), (0.0, 0.0))
    start = float(whole[0, 0]), float(whole[1, 0])  # samples lie near the whole: few steps each
    rates = _chance(
        np.concatenate([_fit(preferences, feature, block, start)[0] for block in weights])
    )
    low, high = np.percentile(rates, TAILS)
    return float(_chance(whole[0])[0]), (float(low), float(high))


def _fit(
    preferences: NDArray[np.float64],
    feature: NDArray[np.float64],
    weights: NDArray[np.float64],
    start: tuple[float, float],
) -> NDArray[np.float64]:
    """Return intercepts and slopes, (2, rows of weights), by Newton's method from `start`."""
    import numpy as np

    found = np.repeat(np.array(start)[:, None], len(weights), axis=1)
    powers = np.stack([np.ones_like(feature), feature, feature**2], axis=1)
    for _ in range(_STEPS):
        chance = _chance(found[0][:, None] + found[1][:, None] * feature)
        gradient = (weights * (preferences - chance)) @ powers[:, :2] - _RIDGE * found.T
        h_00, h_01, h_11 = (weights * chance * (1 - chance) @ powers).T
        h_00, h_11 = h_00 + _RIDGE, h_11 + _RIDGE
        step = np.stack(
            [
                h_11 * gradient[:, 0] - h_01 * gradient[:, 1],
                h_00 * gradient[:, 1] - h_01 * gradient[:, 0],
            ]
        ) / (h_00 * h_11 - h_01**2)
        # Far from the optimum a full Newton step overshoots.
        found += np.clip(step, -_LEAP, _LEAP)
        if np.abs(step).max() < _CLOSE:
            break
    return found


def _chance(logit: NDArray[np.float64]) -> NDArray[np.float64]:
    import numpy as np

    chance: NDArray[np.float64] = 1 / (1 + np.exp(-logit))
    return chance

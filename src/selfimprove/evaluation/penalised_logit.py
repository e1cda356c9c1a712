"""Logistic regression without an intercept and with an absolute penalty, of many weighted samples at once.

Each step minimises the quadratic around the last point plus the penalty, coefficient by coefficient
(Friedman et al., 2010, Sec. 3), and is halved until the objective falls.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["fit_penalised"]

_STEPS: Final = 100
_SWEEPS: Final = 20
_HALVINGS: Final = 20
_CLOSE: Final = 1e-6
"""In logits: a step of all coefficients below it is the last one."""
_ROUNDING: Final = 1e-12
_FLAT: Final = 1e-12
"""Keeps a coefficient whose feature tells nothing where it is."""


def fit_penalised(
    features: NDArray[np.float64],
    preferences: NDArray[np.float64],
    weights: NDArray[np.float64],
    strength: float,
    start: NDArray[np.float64] | None = None,
) -> NDArray[np.float64]:
    """Minimise sum |b| + strength * sum weight * log loss; return (samples, features).

    Args:
        features: (rows, features).
        preferences: (rows,), each from 0 to 1.
        weights: (samples, rows).
        strength: of the data against the penalty, liblinear's C.
        start: (features,), where to begin; None: at zero.
    """
    import numpy as np

    found = np.zeros((len(weights), features.shape[1]))
    if start is not None:
        found += start
    products = (features[:, :, None] * features[:, None, :]).reshape(len(features), -1)
    cost = _cost(found, features, preferences, weights, strength)
    worse = np.zeros(len(found), dtype=bool)
    told = cost
    for _ in range(_STEPS):
        chance = _logistic(found @ features.T)
        gradient = strength * ((weights * (chance - preferences)) @ features)
        curvature = strength * ((weights * chance * (1 - chance)) @ products)
        step = _step(found, gradient, curvature.reshape(*found.shape, -1))
        for _ in range(_HALVINGS):
            told = _cost(found + step, features, preferences, weights, strength)
            worse = told > cost + _ROUNDING * np.abs(cost)
            if not worse.any():
                break
            step[worse] /= 2
        step[worse] = 0
        found, cost = found + step, np.where(worse, cost, told)
        if np.abs(step).max() < _CLOSE:
            break
    return found


def _step(
    at: NDArray[np.float64], gradient: NDArray[np.float64], curvature: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return how far to go from `at` to the least of the quadratic plus the penalty."""
    import numpy as np

    step = np.zeros_like(at)
    for _ in range(_SWEEPS):
        for i in range(at.shape[1]):
            bend = curvature[:, i, i] + _FLAT
            slope = gradient[:, i] + np.einsum("si,si->s", curvature[:, i], step)
            aim = at[:, i] + step[:, i] - slope / bend
            least = np.sign(aim) * np.maximum(np.abs(aim) - 1 / bend, 0)
            step[:, i] = least - at[:, i]
    return step


def _cost(
    found: NDArray[np.float64],
    features: NDArray[np.float64],
    preferences: NDArray[np.float64],
    weights: NDArray[np.float64],
    strength: float,
) -> NDArray[np.float64]:
    import numpy as np

    logits = found @ features.T
    loss = (weights * (np.logaddexp(0, logits) - preferences * logits)).sum(axis=1)
    cost: NDArray[np.float64] = np.abs(found).sum(axis=1) + strength * loss
    return cost


def _logistic(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    import numpy as np

    chance: NDArray[np.float64] = np.exp(-np.logaddexp(0, -logits))
    return chance

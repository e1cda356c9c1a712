"""AlpacaEval 2's length-controlled win rate (Dubois et al., 2024, arXiv:2404.04475), as it is published.

    logit P(the model wins on x) = phi * tanh(how much shorter it is) + psi * difficulty of x + theta

is fitted to a judge's preferences, with lengths in standard deviations of the difference, and to those of
two gamed baselines, for which theta is 0 and which together count a fifth. The win rate is the mean over instructions of what it predicts without a difference
in length. The penalty is the sum of absolute coefficients; its strength is the best of ten by five folds.

Deviations: the interval is ours; each sample draws instructions anew at the chosen strength. The
objective, which is convex, is minimised to the end, where liblinear stops at a tolerance.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from selfimprove.data.gamed_baselines import GamedBaselines
from selfimprove.errors import DataError
from selfimprove.evaluation.intervals import TAILS
from selfimprove.evaluation.penalised_logit import fit_penalised
from selfimprove.seeds import seed_of
from selfimprove.types import Outcome

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["LengthControlled", "length_controlled_win_rate", "rate_at_equal_length"]

_GAMED_WEIGHT: Final = 0.2 / 2  # lambda, shared by two baselines
_STRENGTHS: Final = tuple(10 ** (-4 + 8 * step / 9) for step in range(10))
_FOLDS: Final = 5
_RESAMPLES: Final = 500
_AT_ONCE: Final = 100


@dataclass(frozen=True, slots=True)
class LengthControlled:
    """The win rate that remains without a difference in length, and the regression behind it."""

    win_rate: float
    interval: tuple[float, float]
    length: float
    """phi: below zero where the judge prefers longer responses."""
    difficulty: float
    """psi: how much more often the model wins where the baseline finds it hard."""
    model: float
    """theta: the model itself, in logits."""
    strength: float
    """Of the data against the penalty, as chosen by five folds."""


class _Rows(NamedTuple):
    features: NDArray[np.float64]
    """(rows, 3): length, difficulty, model."""
    preferences: NDArray[np.float64]
    weights: NDArray[np.float64]


def length_controlled_win_rate(
    outcomes: Sequence[Outcome], instructions: Sequence[int], known: GamedBaselines
) -> LengthControlled:
    """Return the length-controlled win rate of the first system, as AlpacaEval 2 counts it.

    Args:
        outcomes: of the model against AlpacaEval's baseline; without a result they are predicted alone.
        instructions: the place of each outcome's instruction in AlpacaEval's evaluation set, from 0.
        known: the gamed baselines and the difficulties.

    Raises:
        DataError: nothing was judged, all responses differ alike in length, or an instruction is unknown.
    """
    import numpy as np

    judged = np.array([o.preference is not None for o in outcomes], dtype=bool)
    features = _features(outcomes, instructions, known)
    preferences = np.array([-1.0 if o.preference is None else o.preference for o in outcomes])
    if not judged.any():
        raise DataError(f"none of {len(outcomes)} matches was judged: there is no win rate")
    ours = _Rows(features[judged], preferences[judged], np.ones(int(judged.sum())))
    rows = _joined(_of_gamed(known), ours)
    strength = _best_strength(rows)
    whole = fit_penalised(rows.features, rows.preferences, rows.weights[None], strength)[0]
    low, high = np.percentile(_resampled_rates(rows, len(ours.weights), strength, whole), TAILS)
    length, difficulty, model = (float(v) for v in whole)
    rate = rate_at_equal_length(model, difficulty, features[:, 1])
    return LengthControlled(rate, (float(low), float(high)), length, difficulty, model, strength)


def rate_at_equal_length(model: float, difficulty: float, hard: NDArray[np.float64]) -> float:
    """Return the win rate of a model with these coefficients, if no response is longer than the other.

    Args:
        model: theta.
        difficulty: psi.
        hard: (instructions,), how hard each is.
    """
    return float(_logistic(model + difficulty * hard).mean())


def _features(
    outcomes: Sequence[Outcome], instructions: Sequence[int], known: GamedBaselines
) -> NDArray[np.float64]:
    import numpy as np

    unknown = sorted(set(instructions) - known.difficulties.keys())
    if unknown:
        raise DataError(
            f"instruction number {unknown[0] + 1} has no difficulty, which is known for "
            f"{len(known.difficulties)}: AlpacaEval 2's rate is that of its own instructions in its own order"
        )
    shorter_by = np.array([float(o.second_length - o.first_length) for o in outcomes])
    spread = float(shorter_by.std(ddof=1)) if len(shorter_by) > 1 else 0.0
    if spread == 0:
        raise DataError("all responses differ by the same length: it cannot be controlled for")
    hard = np.array([known.difficulties[i] for i in instructions])
    return np.stack([np.tanh(shorter_by / spread), hard, np.ones_like(hard)], axis=1)


def _of_gamed(known: GamedBaselines) -> _Rows:
    import numpy as np

    shorter_by = np.array([row.shorter_by for row in known.rows])
    hard = np.array([known.difficulties[row.instruction] for row in known.rows])
    features = np.stack([np.tanh(shorter_by), hard, np.zeros_like(hard)], axis=1)
    preferences = np.array([row.preference for row in known.rows])
    return _Rows(features, preferences, np.full(len(hard), _GAMED_WEIGHT))


def _joined(one: _Rows, other: _Rows) -> _Rows:
    import numpy as np

    return _Rows(*(np.concatenate(parts) for parts in zip(one, other, strict=True)))


def _best_strength(rows: _Rows) -> float:
    """Return the strength whose fits predict the left-out folds best, each fold counting alike."""
    import numpy as np

    # The folds of scikit-learn's GroupKFold with groups of one size: dealt out from the last to the first.
    fold_of = np.arange(len(rows.weights))[::-1] % _FOLDS
    left_out = np.stack([fold_of == fold for fold in range(_FOLDS)])
    losses = []
    for strength in _STRENGTHS:
        fits = fit_penalised(rows.features, rows.preferences, rows.weights * ~left_out, strength)
        loss = rows.weights * _log_loss(rows.features @ fits.T, rows.preferences).T
        losses.append(float(((loss * left_out).sum(axis=1) / left_out.sum(axis=1)).mean()))
    return _STRENGTHS[int(np.argmin(losses))]


def _resampled_rates(
    rows: _Rows, ours: int, strength: float, start: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the win rates of samples of the model's own rows, which are the last ones, (samples,)."""
    import numpy as np

    generator = np.random.default_rng(seed_of(0, "alpaca eval 2", ours))
    even = np.full(ours, 1 / ours)
    gamed = np.tile(rows.weights[:-ours], (_AT_ONCE, 1))
    found = []
    for _ in range(_RESAMPLES // _AT_ONCE):
        drawn = generator.multinomial(ours, even, size=_AT_ONCE).astype(np.float64)
        weights = np.concatenate([gamed, drawn], axis=1)
        fits = fit_penalised(rows.features, rows.preferences, weights, strength, start)
        equal = fits[:, 1:] @ rows.features[-ours:, 1:].T  # nobody's response is longer
        found.append((drawn * _logistic(equal)).sum(axis=1) / ours)
    return np.concatenate(found)


def _log_loss(logits: NDArray[Any], preferences: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the loss of each row and fit, (rows, fits), in nats."""
    import numpy as np

    loss: NDArray[np.float64] = np.logaddexp(0, logits) - preferences[:, None] * logits
    return loss


def _logistic(logit: NDArray[Any]) -> NDArray[np.float64]:
    import numpy as np

    chance: NDArray[np.float64] = np.exp(-np.logaddexp(0, -logit))
    return chance

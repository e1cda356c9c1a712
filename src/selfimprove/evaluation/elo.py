"""Ratings of several systems from their matches: Bradley-Terry on the Elo scale, with bootstrap intervals.

    P(i beats j) = 1 / (1 + 10 ** ((rating_j - rating_i) / 400))

by maximum likelihood, as Chatbot Arena rates; a tie is half a win each. Ratings have no zero of their own:
one system, or the mean of all, is put at 1000.

Where some systems won, or lost, every match against the others, the likelihood has no maximum. Then each two
systems that met get half a win each more, and the result says so: its ratings are smaller than the truth.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from selfimprove.errors import DataError
from selfimprove.evaluation.intervals import TAILS
from selfimprove.seeds import seed_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["Meeting", "Rating", "Ratings", "linked", "rate_systems"]

_SCALE: Final = 400.0
_BASE: Final = 10.0
_ANCHOR: Final = 1000.0
_RESAMPLES: Final = 1_000
_AT_ONCE: Final = 100
_STEPS: Final = 100
_CLOSE: Final = 1e-9
_LEAP: Final = 2.0  # in logits


@dataclass(frozen=True, slots=True)
class Meeting:
    """One match of two systems."""

    first: str
    second: str
    preference: float
    """Share of the win that goes to the first: 1 win, 0.5 tie, 0 loss."""
    prompt: str
    """Matches on one prompt, of whichever systems, are resampled together."""


@dataclass(frozen=True, slots=True)
class Rating:
    """One system's rating, in Elo points."""

    system: str
    rating: float
    interval: tuple[float, float]
    matches: int
    win_rate: float
    """Over all of its matches, ties half."""


@dataclass(frozen=True, slots=True)
class Ratings:
    """All systems, the best first."""

    systems: tuple[Rating, ...]
    anchor: str | None
    """Which of them stands at 1000; None: their mean does."""
    bounded: bool
    """False: some won all against others, and every pair got half a win each more."""


def rate_systems(meetings: Sequence[Meeting], anchor: str | None = None) -> Ratings:
    """Rate systems by their matches; intervals resample prompts.

    Raises:
        DataError: there are no matches, two groups of systems never met, or the anchor is none of them.
    """
    import numpy as np

    names = sorted({name for m in meetings for name in (m.first, m.second)})
    if not meetings:
        raise DataError("there is no match to rate systems by")
    if anchor is not None and anchor not in names:
        raise DataError(f"{anchor!r} is none of the systems that met: {', '.join(names)}")
    of_prompts = _wins_of_prompts(meetings, names)
    won = of_prompts.sum(axis=0)
    _refuse_strangers(meetings)
    place = None if anchor is None else names.index(anchor)
    ever = won + won.T > 0
    ratings = _anchored(_fit(won[None], ever), place)[0]
    drawn = np.concatenate(
        [_anchored(_fit(sample, ever), place) for sample in _samples(of_prompts)]
    )
    low, high = np.percentile(drawn, TAILS, axis=0)
    met = won.sum(axis=1) + won.sum(axis=0)
    rated = [
        Rating(name, float(ratings[i]), (float(low[i]), float(high[i])), round(float(met[i])),
               float(won[i].sum() / met[i]))
        for i, name in enumerate(names)
    ]  # fmt: skip
    bounded = bool(_reaches_all(won[None])[0])
    return Ratings(tuple(sorted(rated, key=lambda r: -r.rating)), anchor, bounded)


def _wins_of_prompts(meetings: Sequence[Meeting], names: Sequence[str]) -> NDArray[np.float64]:
    """Return how often each system beat each other on each prompt, (prompts, systems, systems)."""
    import numpy as np

    place = {name: i for i, name in enumerate(names)}
    prompts = {prompt: i for i, prompt in enumerate(dict.fromkeys(m.prompt for m in meetings))}
    won = np.zeros((len(prompts), len(names), len(names)))
    for m in meetings:
        one, other = place[m.first], place[m.second]
        if one == other:
            raise DataError(f"{m.first!r} met itself on prompt {m.prompt}")
        won[prompts[m.prompt], one, other] += m.preference
        won[prompts[m.prompt], other, one] += 1 - m.preference
    return won


def _samples(of_prompts: NDArray[np.float64]) -> Any:  # noqa: ANN401  a generator of arrays
    """Yield the wins of samples of prompts, (at once, systems, systems)."""
    import numpy as np

    prompts, systems, _ = of_prompts.shape
    generator = np.random.default_rng(seed_of(0, "elo", prompts))
    flat, even = of_prompts.reshape(prompts, -1), np.full(prompts, 1 / prompts)
    for _ in range(_RESAMPLES // _AT_ONCE):
        drawn = generator.multinomial(prompts, even, size=_AT_ONCE) @ flat
        yield drawn.reshape(-1, systems, systems)


def _fit(won: NDArray[np.float64], ever: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return strengths in logits, mean zero, (samples, systems), by Newton's method.

    Args:
        won: (samples, systems, systems): how often the row's system beat the column's.
        ever: (systems, systems): which met at all, in a sample or not.
    """
    import numpy as np

    lifted = ~_reaches_all(won)
    won = won + 0.5 * (lifted[:, None, None] & ever)
    met = won + won.transpose(0, 2, 1)
    count = won.shape[1]
    found = np.zeros(won.shape[:2])
    diagonal = np.arange(count)
    for _ in range(_STEPS):
        expected = met / (1 + np.exp(found[:, None, :] - found[:, :, None]))
        gradient = (won - expected).sum(axis=2)
        bend = expected * (1 - expected / np.where(met > 0, met, 1))
        curvature = -bend
        # All strengths may move together: a constant on top of the matrix keeps their mean where it is.
        curvature[:, diagonal, diagonal] = bend.sum(axis=2)
        step = np.linalg.solve(curvature + 1 / count, gradient[..., None])[..., 0]
        found += np.clip(step, -_LEAP, _LEAP)
        if np.abs(step).max() < _CLOSE:
            break
    centred: NDArray[np.float64] = found - found.mean(axis=1, keepdims=True)
    return centred


def _anchored(logits: NDArray[np.float64], place: int | None) -> NDArray[np.float64]:
    import numpy as np

    points = logits * _SCALE / np.log(_BASE)
    zero = points.mean(axis=1) if place is None else points[:, place]
    anchored: NDArray[np.float64] = points - zero[:, None] + _ANCHOR
    return anchored


def _reaches_all(won: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Tell of each sample whether every system beat every other, if only by way of others (Ford, 1957)."""
    import numpy as np

    paths = ((won > 0) | np.eye(won.shape[1], dtype=bool)).astype(np.float64)
    for _ in range(won.shape[1].bit_length()):
        paths = np.minimum(paths @ paths, 1)
    joined: NDArray[np.bool_] = np.asarray(paths.min(axis=(1, 2)) > 0)
    return joined


def linked(meetings: Sequence[Meeting]) -> list[list[Meeting]]:
    """Return the matches in groups whose systems met, if only by way of others; the largest group first."""
    group_of: dict[str, set[str]] = {}
    for m in meetings:
        joined = group_of.get(m.first, {m.first}) | group_of.get(m.second, {m.second})
        group_of |= dict.fromkeys(joined, joined)
    groups: dict[int, list[Meeting]] = {}
    for m in meetings:
        groups.setdefault(id(group_of[m.first]), []).append(m)
    return sorted(groups.values(), key=len, reverse=True)


def _refuse_strangers(meetings: Sequence[Meeting]) -> None:
    one, *others = linked(meetings)
    if not others:
        return
    told = [
        ", ".join(sorted({name for m in g for name in (m.first, m.second)}))
        for g in (one, others[0])
    ]
    raise DataError(
        f"no match links {told[0]} with {told[1]}, so that their ratings cannot be compared: give a file or "
        "run in which one of each meets, or rate them apart"
    )

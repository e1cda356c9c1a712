"""Two systems against each other on the same prompts: wins, ties, losses, and what length adds.

Every interval resamples prompts, not matches: several draws of one prompt are not independent.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from math import sqrt
from statistics import pvariance
from typing import TYPE_CHECKING, Any, Final

from selfimprove.errors import DataError
from selfimprove.evaluation.length_control import length_controlled_rates
from selfimprove.seeds import seed_of
from selfimprove.types import Match, Outcome, Response

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["HeadToHead", "head_to_head", "matches"]

_RESAMPLES: Final = 10_000
_LENGTH_RESAMPLES: Final = 500
_TAILS: Final = (2.5, 97.5)


@dataclass(frozen=True, slots=True)
class HeadToHead:
    """How the first system did against the second; rates are shares, lengths are characters."""

    first: str
    second: str
    judge: str
    set: str
    n: int
    """Matches with a result."""
    prompts: int
    wins: int
    """Preferences above one half."""
    ties: int
    losses: int
    unscored: int
    win_rate: float
    """Mean preference: ties count half, as AlpacaEval counts."""
    win_rate_interval: tuple[float, float]
    standard_error: float
    """Of the win rate over matches, as AlpacaEval gives it."""
    decided: int
    decided_rate: float
    """Wins among the matches that were decided; one half where none was."""
    decided_interval: tuple[float, float]
    length_controlled: float
    """Win rate to be expected if both were equally long."""
    length_controlled_interval: tuple[float, float]
    first_length: float
    second_length: float

    def as_dict(self) -> dict[str, Any]:
        """Return the figures as JSON data."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}


def matches(first: Sequence[Response], second: Sequence[Response]) -> list[Match]:
    """Set draw i of a prompt against draw i of the same prompt.

    Raises:
        DataError: the two did not answer the same prompts equally often.
    """
    theirs = {(r.prompt_id, r.index): r for r in second}
    if {(r.prompt_id, r.index) for r in first} != theirs.keys():
        raise DataError(
            "the two systems did not answer the same prompts equally often: "
            "they cannot be compared match by match"
        )
    return [
        Match(f"{r.prompt_id}#{r.index}", r.prompt_id, r.prompt, r.text,
              theirs[r.prompt_id, r.index].text)
        for r in first
    ]  # fmt: skip


def head_to_head(
    outcomes: Sequence[Outcome], *, first: str, second: str, judge: str, set: str
) -> HeadToHead:
    """Count and compare; matches without a result are left out and counted.

    Raises:
        DataError: no match has a result.
    """
    import numpy as np

    decided = sorted((o for o in outcomes if o.preference is not None), key=lambda o: o.prompt_id)
    if not decided:
        raise DataError(f"{first} against {second}: none of {len(outcomes)} matches was judged")
    told = [o.preference for o in decided if o.preference is not None]
    wins, losses = sum(p > 0.5 for p in told), sum(p < 0.5 for p in told)
    ours, theirs = (
        np.array([getattr(o, side) for o in decided], dtype=float)
        for side in ("first_length", "second_length")
    )
    prompt_of = np.array(
        [i for i, (_, g) in enumerate(groupby(decided, key=lambda o: o.prompt_id)) for _ in g]
    )
    preferences = np.array(told)
    drawn = _draws_of_prompts(int(prompt_of[-1]) + 1)
    level, level_interval = length_controlled_rates(
        preferences, ours - theirs, drawn[:_LENGTH_RESAMPLES, prompt_of]
    )
    return HeadToHead(
        first, second, judge, set,
        n=len(told),
        prompts=int(prompt_of[-1]) + 1,
        wins=wins,
        ties=len(told) - wins - losses,
        losses=losses,
        unscored=len(outcomes) - len(told),
        win_rate=float(preferences.mean()),
        win_rate_interval=_interval(preferences, np.ones(len(told)), prompt_of, drawn),
        standard_error=sqrt(pvariance(told) / max(len(told) - 1, 1)),
        decided=wins + losses,
        decided_rate=wins / (wins + losses) if wins + losses else 0.5,
        decided_interval=_interval(preferences > 0.5, preferences != 0.5, prompt_of, drawn),
        length_controlled=level,
        length_controlled_interval=level_interval,
        first_length=float(ours.mean()),
        second_length=float(theirs.mean()),
    )  # fmt: skip


def _draws_of_prompts(prompts: int) -> NDArray[np.float64]:
    """Return how often each bootstrap sample draws each prompt, (resamples, prompts)."""
    import numpy as np

    generator = np.random.default_rng(seed_of(0, "head to head", prompts))
    counts = generator.multinomial(prompts, [1 / prompts] * prompts, size=_RESAMPLES)
    return counts.astype(np.float64)


def _interval(
    top: NDArray[Any], bottom: NDArray[Any], prompt_of: NDArray[Any], drawn: NDArray[np.float64]
) -> tuple[float, float]:
    """Return the percentile interval of sum(top) / sum(bottom) over resampled prompts."""
    import numpy as np

    prompts = drawn.shape[1]
    tops, bottoms = (
        drawn @ np.bincount(prompt_of, weights=part.astype(float), minlength=prompts)
        for part in (top, bottom)
    )
    # A sample in which nothing was decided says neither.
    rates = np.divide(tops, bottoms, out=np.full_like(tops, 0.5), where=bottoms > 0)
    low, high = np.percentile(rates, _TAILS)
    return float(low), float(high)

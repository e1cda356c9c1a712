"""Two systems against each other on the same prompts: wins, ties, losses, and what length adds.

Every interval resamples prompts, not matches: several draws of one prompt are not independent.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from math import sqrt
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from selfimprove.errors import DataError
from selfimprove.evaluation.intervals import TAILS, mean, resampled_sums
from selfimprove.evaluation.length_control import length_controlled_rates
from selfimprove.seeds import seed_of
from selfimprove.types import Match, Outcome, Response

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["HeadToHead", "head_to_head", "matches"]

_LENGTH_RESAMPLES: Final = 2_000
_AT_ONCE: Final = 250
_ANYWHERE: Final = (0.0, 1.0)


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
    ours, theirs = ({(r.prompt_id, r.index): r for r in side} for side in (first, second))
    if alone := ours.keys() ^ theirs.keys():
        prompt, index = min(alone)
        raise DataError(
            f"the two systems did not answer the same prompts equally often: {len(alone)} responses "
            f"have no counterpart, such as number {index} to prompt {prompt}"
        )
    for key, one in ours.items():
        if one.prompt != theirs[key].prompt:
            raise DataError(f"prompt {key[0]} is not the same text for the two systems")
    met = [(one, theirs[key]) for key, one in ours.items()]
    return [
        Match(f"{one.prompt_id}#{one.index}", one.prompt_id, one.prompt, one.text, other.text,
              one.finish, other.finish)
        for one, other in met
    ]  # fmt: skip


def head_to_head(
    outcomes: Sequence[Outcome], *, first: str, second: str, judge: str, set: str
) -> HeadToHead:
    """Count and compare; matches without a result are left out and counted.

    Where nothing was decided the decided rate is one half, anywhere from 0 to 1. Where one side won
    all of it, intervals are Wilson's over prompts, and so is that of the length-controlled rate,
    which length cannot explain then. One prompt alone says nothing of others: 0 to 1.

    Raises:
        DataError: no match has a result.
    """
    import numpy as np

    judged = [(o, o.preference) for o in outcomes if o.preference is not None]
    if not judged:
        (why, _), *_ = Counter(o.unscored for o in outcomes).most_common(1) or [("no match", 0)]
        raise DataError(
            f"{first} against {second}: none of {len(outcomes)} matches was judged ({why})"
        )
    preferences = np.array([preference for _, preference in judged])
    ours = np.array([o.first_length for o, _ in judged], dtype=float)
    theirs = np.array([o.second_length for o, _ in judged], dtype=float)
    names, prompt_of = np.unique([o.prompt_id for o, _ in judged], return_inverse=True)
    sample = _Sample(prompt_of, len(names))
    won, tied = preferences > 0.5, preferences == 0.5
    wins, decided = int(won.sum()), int((~tied).sum())
    rate = float(preferences.mean())
    interval, decided_interval = sample.intervals(
        [(preferences, np.ones_like(preferences)), (won, ~tied)]
    )
    level = sample.at_equal_length(preferences, ours - theirs)
    return HeadToHead(
        first, second, judge, set,
        n=len(judged),
        prompts=len(names),
        wins=wins,
        ties=len(judged) - decided,
        losses=decided - wins,
        unscored=len(outcomes) - len(judged),
        win_rate=rate,
        win_rate_interval=interval,
        standard_error=float(preferences.std()) / sqrt(max(len(judged) - 1, 1)),
        decided=decided,
        decided_rate=wins / decided if decided else 0.5,
        decided_interval=decided_interval,
        length_controlled=level[0] if level else rate,
        length_controlled_interval=level[1] if level else interval,
        first_length=float(ours.mean()),
        second_length=float(theirs.mean()),
    )  # fmt: skip


_Share: TypeAlias = "tuple[NDArray[Any], NDArray[Any]]"
"""What is counted, and of what: one value of each a match."""


class _Sample:
    """Matches in clusters, one a prompt, and the bootstrap samples of those prompts."""

    def __init__(self, prompt_of: NDArray[Any], prompts: int) -> None:
        self._prompt_of = prompt_of
        self._prompts = prompts

    def intervals(self, shares: Sequence[_Share]) -> list[tuple[float, float]]:
        """Return the 95 % interval of sum(top) / sum(bottom) of each share, from the same samples."""
        import numpy as np

        of_prompts = [(self._by_prompt(top), self._by_prompt(bottom)) for top, bottom in shares]
        columns = np.stack([part for share in of_prompts for part in share], axis=1)
        drawn = resampled_sums(columns, "head to head")
        return [
            self._degenerate(top, bottom) or _percentiles(drawn[:, 2 * i], drawn[:, 2 * i + 1])
            for i, (top, bottom) in enumerate(of_prompts)
        ]

    def _by_prompt(self, values: NDArray[Any]) -> NDArray[np.float64]:
        import numpy as np

        summed = np.bincount(self._prompt_of, values.astype(np.float64), self._prompts)
        return summed.astype(np.float64)

    def _degenerate(
        self, top: NDArray[np.float64], bottom: NDArray[np.float64]
    ) -> tuple[float, float] | None:
        """Return the interval where a bootstrap would have no width, or nothing to go on."""
        if self._prompts == 1 or not bottom.any():
            return _ANYWHERE
        if top.any() and (top != bottom).any():
            return None
        told = mean([float(top.any())] * int((bottom > 0).sum()))
        return told.low, told.high

    def at_equal_length(
        self, preferences: NDArray[Any], longer_by: NDArray[Any]
    ) -> tuple[float, tuple[float, float]] | None:
        """Return the length-controlled rate and its interval; None where length explains nothing."""
        if (preferences == preferences[0]).all() or (longer_by == longer_by[0]).all():
            return None
        weights = (drawn[:, self._prompt_of] for drawn in self._samples())
        rate, interval = length_controlled_rates(preferences, longer_by, weights)
        return rate, interval if self._prompts > 1 else _ANYWHERE

    def _samples(self) -> Iterator[NDArray[np.float64]]:
        """Yield how often each of 2,000 samples draws each prompt, (at once, prompts): always the same."""
        import numpy as np

        generator = np.random.default_rng(seed_of(0, "head to head", self._prompts))
        even = np.full(self._prompts, 1 / self._prompts)
        for _ in range(_LENGTH_RESAMPLES // _AT_ONCE):
            yield generator.multinomial(self._prompts, even, size=_AT_ONCE).astype(np.float64)


def _percentiles(tops: NDArray[np.float64], bottoms: NDArray[np.float64]) -> tuple[float, float]:
    import numpy as np

    # A sample in which nothing was decided says neither.
    rates = np.divide(tops, bottoms, out=np.full_like(tops, 0.5), where=bottoms > 0)
    low, high = np.percentile(rates, TAILS)
    return float(low), float(high)

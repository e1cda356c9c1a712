"""The control of a judge's card: what the same scores are worth when they are dealt at random.

Within each prompt the judge's scores are permuted among the responses, again and again. So a judge
that knows nothing of them would look that has the same habits: as many ties, as many top scores.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import Any, Final

from selfimprove.seeds import seed_of

__all__ = ["by_chance"]

_DEALS: Final = 2_000
_TAILS: Final = (2.5, 97.5)


def by_chance(
    ranked: Sequence[tuple[Sequence[float], Sequence[float]]], highest: float | None
) -> dict[str, dict[str, Any] | None]:
    """Return what permuted scores give of each metric that counts, as JSON data.

    Args:
        ranked: judged and true worth of the responses to each prompt.
        highest: the best score the judge can give; None: there is none, so no five best either.

    Returns:
        For pairwise accuracy (ties as half, and strict), exact match and five best: the mean over the
        permutations, the range in which 95 % of them lie, and the `n` of each.
    """
    import numpy as np

    dice = np.random.default_rng(seed_of(0, "judge by chance", len(ranked)))
    names = ("pairwise_accuracy", "pairwise_accuracy_strict", "exact_match", "five_best")
    hits = {name: np.zeros(_DEALS) for name in names}
    of = dict.fromkeys(names, 0)
    for judged, true in ranked:
        dealt = dice.permuted(np.tile(np.array(judged, float), (_DEALS, 1)), axis=1)
        worth = np.array(true, float)
        pairs = [(a, b) for a, b in combinations(range(len(worth)), 2) if worth[a] != worth[b]]
        if pairs:
            a, b = (list(side) for side in zip(*pairs, strict=True))
            alike = np.sign(dealt[:, a] - dealt[:, b]) * np.sign(worth[a] - worth[b])
            hits["pairwise_accuracy"] += (alike + 1).sum(axis=1) / 2
            hits["pairwise_accuracy_strict"] += (alike > 0).sum(axis=1)
            hits["exact_match"] += (alike > 0).all(axis=1)
            of["pairwise_accuracy"] += len(pairs)
            of["pairwise_accuracy_strict"] += len(pairs)
            of["exact_match"] += 1
        if highest is not None:
            top = dealt == highest
            hits["five_best"] += (top & (worth == worth.max())).sum(axis=1)
            of["five_best"] += int(top[0].sum())
    return {name: _told(hits[name] / of[name], of[name]) if of[name] else None for name in names}


def _told(shares: Any, n: int) -> dict[str, Any]:  # noqa: ANN401  a numpy array
    import numpy as np

    low, high = np.percentile(shares, _TAILS)
    return {"value": float(shares.mean()), "interval": [float(low), float(high)], "n": n}

"""A share over things that come in clusters, such as pairs of responses to one prompt."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from selfimprove.evaluation.intervals import TAILS, Estimate, mean, resampled_sums

__all__ = ["clustered", "told"]


def clustered(clusters: Sequence[Sequence[float]], *, difference: bool = False) -> Estimate | None:
    """Return the mean over all values, its 95 % interval over resampled clusters; None of none.

    Where clusters hold one share each, or all shares are the same, the interval is that of `mean`
    over the clusters: a bootstrap of equal values has no width. Differences, and what else is no share,
    are always resampled.
    """
    filled = [cluster for cluster in clusters if cluster]
    values = [value for cluster in filled for value in cluster]
    if not values:
        return None
    if not difference and (len(values) == len(filled) or len(set(values)) == 1):
        of_clusters = mean([cluster[0] for cluster in filled])
        return Estimate(of_clusters.value, of_clusters.low, of_clusters.high, len(values))
    low, high = _bootstrap(filled)
    return Estimate(sum(values) / len(values), low, high, len(values))


def told(clusters: Sequence[Sequence[float]], *, difference: bool = False) -> dict[str, Any] | None:
    """Return `clustered` as JSON data: value, interval, n."""
    found = clustered(clusters, difference=difference)
    if found is None:
        return None
    return {"value": found.value, "interval": [found.low, found.high], "n": found.n}


def _bootstrap(clusters: Sequence[Sequence[float]]) -> tuple[float, float]:
    import numpy as np

    summed = np.array([(sum(cluster), len(cluster)) for cluster in clusters], dtype=float)
    sums, sizes = resampled_sums(summed, "clusters").T
    low, high = np.percentile(sums / sizes, TAILS)
    return float(low), float(high)

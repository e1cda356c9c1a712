"""How far a gap reward model can be trusted, on held-out preferences.

Of each preference four gaps are read: wl, ww, ll and lw, candidate first. Measured are

- contrasts: share of preferences in which the five orders of the training loss hold; a tie is half.
- ordered: share in which wl is above both identity pairs, and both above lw.
- sign_agreement: share of wl above and of lw below zero, as they stand; and `centred`, after the mean
  of a preference's identity pairs is taken off, since the loss does not fix what zero means.
- antisymmetry: mean |r(w,l) + r(l,w)| in standard deviations of the gaps; 0 for any difference of two
  scores, about 1.1 for independent normal gaps.
- calibration: how often the response that the model thinks better, with probability
  sigma(r(w,l) - r(l,w)) or its complement, is the preferred one.

Intervals resample prompts: preferences on one prompt are not independent. All of it is JSON data.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, pstdev
from typing import Any, Final

from selfimprove.data.preferences import Preference
from selfimprove.evaluation.clusters import told
from selfimprove.judges.gap import FOUR
from selfimprove.judges.reward_rows import Scored
from selfimprove.training.gap_loss import CONTRASTS

__all__ = ["FourGaps", "against_truth", "four_gaps", "gap_quality"]

_BINS: Final = 5
"""Of equal width, between a confidence of one half and one."""


@dataclass(frozen=True, slots=True)
class FourGaps:
    """The four gaps of one preference."""

    id: str
    prompt: str
    """Preferences with the same one are resampled together."""
    wl: float
    ww: float
    ll: float
    lw: float

    @property
    def middle(self) -> float:
        """Mean gap of a response over itself: what zero should be."""
        return (self.ww + self.ll) / 2


def four_gaps(preferences: Sequence[Preference], scored: Sequence[Scored]) -> list[FourGaps]:
    """Join preferences with the scores of `four_of`; one with an unscored gap is left out."""
    score_of = {(row.prompt_id, row.index): row.score for row in scored}
    found = []
    for preference in preferences:
        gaps = [score_of.get((preference.id, i)) for i in range(len(FOUR))]
        known = [gap for gap in gaps if gap is not None]
        if len(known) == len(FOUR):
            turns = "\n\n".join(f"{m.role}: {m.content}" for m in preference.prompt)
            found.append(FourGaps(preference.id, turns, *known))
    return found


def gap_quality(gaps: Sequence[FourGaps], given: int) -> dict[str, Any]:
    """Return every measure as JSON data; None where there is nothing to measure.

    Args:
        gaps: of held-out preferences.
        given: how many preferences were to be scored; the rest is reported as unscored.
    """
    contrasts = {
        f"{more}>{less}": _clustered(
            [g.prompt for g in gaps], [_above(getattr(g, more), getattr(g, less)) for g in gaps]
        )
        for more, less in CONTRASTS
    }
    return {
        "preferences": len(gaps),
        "unscored": given - len(gaps),
        "accuracy": contrasts["wl>lw"],
        "contrasts": contrasts,
        "ordered": _share(gaps, _is_ordered),
        "means": {name: fmean(getattr(g, name) for g in gaps) for name in FOUR} if gaps else None,
        "sign_agreement": _share(gaps, lambda g: (_above(g.wl, 0) + _above(0, g.lw)) / 2),
        "sign_agreement_centred": _share(
            gaps, lambda g: (_above(g.wl, g.middle) + _above(g.middle, g.lw)) / 2
        ),
        "antisymmetry": _antisymmetry(gaps, lambda _: 0.0),
        "antisymmetry_centred": _antisymmetry(gaps, lambda g: g.middle),
        **_calibration(gaps),
    }


def against_truth(
    gaps: Sequence[FourGaps], worth: Mapping[str, tuple[float, float]]
) -> dict[str, Any]:
    """Return how often the gap model finds the truly better response, whatever people preferred.

    Args:
        gaps: of held-out preferences.
        worth: by id, what chosen and rejected response are truly worth; equal ones say nothing.

    Returns:
        `accuracy` over all, `by_difference` for each difference of worth, and `agreement`: the share
        of preferences that are right themselves, which bounds what can be learnt from them.
    """
    known = [(g, worth[g.id]) for g in gaps if g.id in worth and worth[g.id][0] != worth[g.id][1]]
    right = [_above((g.wl - g.lw) * (w - v), 0) for g, (w, v) in known]
    sizes = [abs(w - v) for _, (w, v) in known]
    prompts = [g.prompt for g, _ in known]
    return {
        "accuracy": _clustered(prompts, right),
        "by_difference": [
            {
                "difference": size,
                "accuracy": _clustered(
                    [p for p, s in zip(prompts, sizes, strict=True) if s == size],
                    [r for r, s in zip(right, sizes, strict=True) if s == size],
                ),
            }
            for size in sorted(set(sizes))
        ],
        "agreement": _clustered(prompts, [float(w > v) for _, (w, v) in known]),
    }


def _above(one: float, other: float) -> float:
    return 1.0 if one > other else 0.5 if one == other else 0.0


def _is_ordered(g: FourGaps) -> float:
    return float(g.wl > max(g.ww, g.ll) and min(g.ww, g.ll) > g.lw)


def _share(gaps: Sequence[FourGaps], of: Callable[[FourGaps], float]) -> dict[str, Any] | None:
    return _clustered([g.prompt for g in gaps], [of(g) for g in gaps])


def _clustered(prompts: Sequence[str], values: Sequence[float]) -> dict[str, Any] | None:
    clusters: dict[str, list[float]] = {}
    for prompt, value in zip(prompts, values, strict=True):
        clusters.setdefault(prompt, []).append(value)
    return told(list(clusters.values()))


def _antisymmetry(
    gaps: Sequence[FourGaps], zero: Callable[[FourGaps], float]
) -> dict[str, Any] | None:
    spread = pstdev([gap - zero(g) for g in gaps for gap in (g.wl, g.lw)]) if gaps else 0.0
    if not spread:
        return None
    return _share(gaps, lambda g: abs(g.wl + g.lw - 2 * zero(g)) / spread)


def _calibration(gaps: Sequence[FourGaps]) -> dict[str, Any]:
    """Return bins of confidence, and their mean distance from the truth, weighted by size."""
    binned: dict[int, list[FourGaps]] = {}
    for g in gaps:
        place = min(int((_confidence(g) - 0.5) * 2 * _BINS), _BINS - 1)
        binned.setdefault(place, []).append(g)
    bins = [
        {
            "from": 0.5 + place / (2 * _BINS),
            "confidence": fmean(_confidence(g) for g in rows),
            "accuracy": _share(rows, lambda g: _above(g.wl, g.lw)),
        }
        for place, rows in sorted(binned.items())
    ]
    misses = [
        abs(sum(_confidence(g) - _above(g.wl, g.lw) for g in rows)) for rows in binned.values()
    ]
    return {"calibration": bins, "calibration_error": sum(misses) / len(gaps) if gaps else None}


def _confidence(g: FourGaps) -> float:
    """Return the probability of the response that the model thinks better, one half or more."""
    return 1 / (1 + math.exp(-abs(g.wl - g.lw)))

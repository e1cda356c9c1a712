"""Signs that a model that learns from itself is collapsing: sameness, ties, lengths that run away."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import groupby, pairwise
from statistics import fmean
from typing import Any, Final

from selfimprove.types import Response

__all__ = ["CollapseSigns", "collapse"]

_FEWER_PHRASES: Final = 0.7
"""Warn when distinct-2, and the different pairs in a response, fall below this share of those of
the iteration before. Longer texts repeat words by nature: the first alone would be no sign."""
_MORE_REPEATED: Final = 0.1
"""Warn when the share of repeated responses grows by more."""
_MANY_TIES: Final = 0.8
"""Warn when more prompts than this have responses of one score alone: nothing is left to learn."""
_MORE_TIES: Final = 0.25
"""Warn when the share of such prompts grows by more."""
_LONGER: Final = 1.5
"""Warn when the mean length grows by more than this factor, or falls by more than its inverse."""


@dataclass(frozen=True, slots=True)
class CollapseSigns:
    """What the responses of one model look like as a whole."""

    arm: str
    distinct_1: float
    """Different words, of all words."""
    distinct_2: float
    """Different pairs of neighbouring words, of all pairs."""
    repeated: float
    """Share of responses that are word for word another response to the same prompt."""
    share_ties: float
    """Share of prompts whose responses all have the same score."""
    mean_length: float
    """In characters."""
    warnings: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Return the signs as JSON data."""
        return {**asdict(self), "warnings": list(self.warnings)}


def collapse(
    arm: str,
    responses: Sequence[Response],
    scores: Mapping[tuple[str, int], float],
    before: CollapseSigns | None,
) -> CollapseSigns:
    """Look for signs of collapse in an arm's responses, against those of the arm before.

    Args:
        arm: what the model is called.
        responses: its responses, those of one prompt together.
        scores: by prompt id and index; responses without one are left out of the ties.
        before: the signs of the model it was trained from.
    """
    words = [r.text.split() for r in responses]
    by_prompt = [list(g) for _, g in groupby(responses, key=lambda r: r.prompt_id)]
    signs = CollapseSigns(
        arm,
        distinct_1=_distinct(w for text in words for w in text),
        distinct_2=_distinct(pair for text in words for pair in pairwise(text)),
        repeated=sum(len(g) - len({r.text for r in g}) for g in by_prompt) / max(len(responses), 1),
        share_ties=_share_ties(by_prompt, scores),
        mean_length=fmean(len(r.text) for r in responses) if responses else 0.0,
    )
    found = [*_told_alone(signs), *(_told_against(signs, before) if before else ())]
    return replace(signs, warnings=tuple(found))


def _distinct(things: Iterable[object]) -> float:
    counted = Counter(things)
    return len(counted) / max(counted.total(), 1)


def _share_ties(
    by_prompt: Sequence[Sequence[Response]], scores: Mapping[tuple[str, int], float]
) -> float:
    """Return the share of ties among prompts with at least two scored responses."""
    told = [
        [scores[r.prompt_id, r.index] for r in group if (r.prompt_id, r.index) in scores]
        for group in by_prompt
    ]
    compared = [found for found in told if len(found) > 1]
    return sum(len(set(found)) == 1 for found in compared) / max(len(compared), 1)


def _told_alone(now: CollapseSigns) -> Iterator[str]:
    if now.share_ties > _MANY_TIES:
        yield (
            f"{now.share_ties:.0%} of the prompts have responses of one score alone: "
            "there is little left to learn from"
        )


def _told_against(now: CollapseSigns, before: CollapseSigns) -> Iterator[str]:
    name = before.arm
    fewest = _FEWER_PHRASES * before.distinct_2
    if now.distinct_2 < fewest and _phrases(now) < _FEWER_PHRASES * _phrases(before):
        yield (
            f"fewer different phrases than {name}: {now.distinct_2:.3f} of all pairs of words "
            f"differ, {before.distinct_2:.3f} did"
        )
    if now.repeated > before.repeated + _MORE_REPEATED:
        yield f"{now.repeated:.0%} of the responses repeat another; of {name}'s {before.repeated:.0%}"
    if now.share_ties > before.share_ties + _MORE_TIES:
        yield f"{now.share_ties:.0%} of the prompts end in ties; of {name}'s {before.share_ties:.0%}"
    if (
        now.mean_length > _LONGER * before.mean_length
        or now.mean_length < before.mean_length / _LONGER
    ):
        change = "longer" if now.mean_length > before.mean_length else "shorter"
        yield (
            f"responses are much {change} than {name}'s: {now.mean_length:.0f} characters, they were "
            f"{before.mean_length:.0f}"
        )


def _phrases(signs: CollapseSigns) -> float:
    """Return what is in proportion to the different pairs in one response."""
    return signs.distinct_2 * signs.mean_length

"""Signs that a model that learns from itself is collapsing: sameness, ties, growing length."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby, pairwise
from statistics import fmean
from typing import Any, Final

from selfimprove.types import Response

__all__ = ["CollapseSigns", "collapse"]

_FEWER_PHRASES: Final = 0.7
"""Warn when distinct-2 falls below this share of the iteration before."""
_MORE_REPEATED: Final = 0.1
"""Warn when the share of repeated responses grows by more."""
_MANY_TIES: Final = 0.8
"""Warn when more prompts than this have responses of one score alone: nothing is left to learn."""
_LONGER: Final = 1.5
"""Warn when the mean length grows by more than this factor."""


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
    warnings: tuple[str, ...]

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
        warnings=(),
    )
    return CollapseSigns(**{**asdict(signs), "warnings": tuple(_warnings(signs, before))})


def _distinct(things: Iterator[object]) -> float:
    seen = list(things)
    return len(set(seen)) / max(len(seen), 1)


def _share_ties(
    by_prompt: Sequence[Sequence[Response]], scores: Mapping[tuple[str, int], float]
) -> float:
    told = [
        {scores[r.prompt_id, r.index] for r in group if (r.prompt_id, r.index) in scores}
        for group in by_prompt
        if len(group) > 1
    ]
    return sum(len(found) == 1 for found in told) / max(len(told), 1)


def _warnings(now: CollapseSigns, before: CollapseSigns | None) -> Iterator[str]:
    if now.share_ties > _MANY_TIES:
        yield (
            f"{now.share_ties:.0%} of the prompts have responses of one score alone: "
            "there is little left to learn from"
        )
    if before is None:
        return
    if now.distinct_2 < _FEWER_PHRASES * before.distinct_2:
        yield f"fewer different phrases than {before.arm} ({before.distinct_2:.3f} to {now.distinct_2:.3f})"
    if now.repeated > before.repeated + _MORE_REPEATED:
        yield f"more responses repeat each other than {before.arm}'s ({before.repeated:.0%} to {now.repeated:.0%})"
    if now.mean_length > _LONGER * before.mean_length:
        yield f"responses are {now.mean_length / before.mean_length:.1f} times as long as {before.arm}'s"

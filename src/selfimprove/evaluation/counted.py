"""Scores of responses as they count in a mean: unfinished ones by the rule of `unfinished`."""

from __future__ import annotations

from collections.abc import Iterable
from statistics import fmean
from typing import TypeAlias

from selfimprove.types import Response
from selfimprove.unfinished import least, worth

__all__ = ["Scores", "lowest_of", "means", "unfinished"]

Scores: TypeAlias = dict[tuple[str, int], float]
"""By prompt and index; a response without any score is absent."""


def lowest_of(systems: Iterable[tuple[Iterable[Response], Scores]]) -> float | None:
    """Return what an unfinished response is worth on a scale without an end: the least of all systems.

    One figure for all of them, or a system whose few finished responses are good would gain by the
    others.
    """
    told = [
        (scores[r.prompt_id, r.index], r.is_finished)
        for responses, scores in systems
        for r in responses
        if (r.prompt_id, r.index) in scores
    ]
    return least([score for score, _ in told], [done for _, done in told])


def means(responses: Iterable[Response], scores: Scores, lowest: float | None) -> dict[str, float]:
    """Return the mean of each prompt's responses; without any that has a score, a prompt is absent."""
    found: dict[str, list[float]] = {}
    for r in responses:
        counts = worth(scores.get((r.prompt_id, r.index)), r.is_finished, lowest)
        if r.finish != "error" and counts is not None:
            found.setdefault(r.prompt_id, []).append(counts)
    return {prompt: fmean(values) for prompt, values in found.items()}


def unfinished(responses: Iterable[Response]) -> int:
    """Return how many responses did not end."""
    return sum(not r.is_finished for r in responses)

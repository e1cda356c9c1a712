"""Preference pairs from a model's own scores: the best response against the worst (Sec. 2.3)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from pydantic import Field

from selfimprove.config import Config
from selfimprove.judges.judge import mean_scores
from selfimprove.rows import Drop, Filtered, Funnel
from selfimprove.types import Demonstration, Response, Verdict
from selfimprove.unfinished import least, worth

__all__ = ["PairsConfig", "ScoredPair", "best_against_worst", "perfect_responses"]


Scores = dict[tuple[str, int], float]
_Scored = tuple[float, Response]


class PairsConfig(Config):
    """Which responses are set against each other."""

    per_prompt: int = Field(default=1, ge=1)
    """Pairs a prompt at most: best against worst, then second best against second worst, ...
    Paper: 1."""
    min_gap: float = Field(default=0.0, ge=0)
    """Drop pairs whose scores differ by less, in points; equal scores are always dropped (paper)."""
    length_control: float | None = Field(default=None, ge=0, le=1)
    """Meta-Rewarding's rho: the shortest response within this share of the range below the best
    score is chosen, the longest as near to the worst is rejected. None: plain best and worst."""
    max_pairs: int | None = Field(default=None, ge=1)
    """Use the first so many pairs; None is all."""


@dataclass(frozen=True, slots=True)
class ScoredPair:
    """Two responses to one prompt, told apart by the judge."""

    prompt_id: str
    prompt: str
    chosen: str
    rejected: str
    chosen_score: float
    rejected_score: float
    chosen_tokens: int
    rejected_tokens: int
    rejected_finished: bool = True


def best_against_worst(
    candidates: Sequence[Response], verdicts: Sequence[Verdict], config: PairsConfig
) -> Filtered[ScoredPair]:
    """Set the response of highest mean score against that of the lowest, prompt by prompt.

    A response without any score takes no part: it is not the worst one. Of equals, the one drawn
    first is taken. One that was cut off is worth the least that a finished one of its prompt is, or
    its own score where that is lower: never chosen, and rejected only where nothing finished is as bad.
    """
    scores = mean_scores(verdicts)
    pairs: list[ScoredPair] = []
    dropped: Counter[str] = Counter()
    prompts = 0
    for _, group in groupby(candidates, key=lambda response: response.prompt_id):
        prompts += 1
        found, why = _pairs_of(_by_the_rule(scores, list(group)), config)
        pairs += found
        if why:
            dropped[why] += 1
    used = pairs[: config.max_pairs]
    drops = tuple(Drop(why, count) for why, count in dropped.most_common())
    told_apart = Funnel("prompts with a pair", prompts, prompts - dropped.total(), drops)
    above = (Drop("above max_pairs", len(pairs) - len(used)),)
    return Filtered(
        used,
        (
            told_apart,
            Funnel("pairs", len(pairs), len(used), above),
            _endings(candidates, used),
        ),
    )


def _endings(candidates: Sequence[Response], used: Sequence[ScoredPair]) -> Funnel:
    """Count the candidates that may be chosen, and what became of the others."""
    rejected = sum(not pair.rejected_finished for pair in used)
    cut = sum(r.finish == "length" for r in candidates)
    drops = (
        Drop("cut off: the rejected one of a pair, without an end token", rejected),
        Drop("cut off: in no pair", cut - rejected),
        Drop("no response from the server", sum(r.finish == "error" for r in candidates)),
    )
    kept = sum(r.is_finished for r in candidates)
    return Funnel("finished candidates", len(candidates), kept, tuple(d for d in drops if d.count))


def _by_the_rule(scores: Scores, responses: Sequence[Response]) -> list[_Scored]:
    """Return the responses that have a text and a score, with what they are worth."""
    told = [
        (scores[r.prompt_id, r.index], r)
        for r in responses
        if (r.prompt_id, r.index) in scores and (r.is_finished or r.text) and r.finish != "error"
    ]
    lowest = least([score for score, _ in told], [r.is_finished for _, r in told])
    # Of equals the first is taken: a finished one, wherever there is one.
    ended_first = sorted(told, key=lambda one: not one[1].is_finished)
    return [
        (value, r)
        for score, r in ended_first
        if (value := worth(score, r.is_finished, lowest)) is not None
    ]


def _pairs_of(
    scored: Sequence[_Scored], config: PairsConfig
) -> tuple[list[ScoredPair], str | None]:
    """Return one prompt's pairs, or why it has none."""
    if len(scored) < 2:
        return [], "fewer than two responses with a score"
    if not scored[0][1].is_finished:
        return [], "every response was cut off"
    if config.length_control is not None:
        matched = [_length_controlled(scored, config.length_control)]
    else:
        matched = list(_outside_in(scored))[: config.per_prompt]
    told_apart = [(b, w) for b, w in matched if b[0] > w[0]]
    if not told_apart:
        return [], "all scores are equal"
    apart = [(b, w) for b, w in told_apart if b[0] - w[0] >= config.min_gap]
    if not apart:
        return [], "scores differ by less than min_gap"
    different = [(b, w) for b, w in apart if b[1].text != w[1].text]
    if not different:
        return [], "the same text was scored twice"
    return [_pair(best, worst) for best, worst in different], None


def _outside_in(scored: Sequence[_Scored]) -> Iterator[tuple[_Scored, _Scored]]:
    """Yield best and worst, then second best and second worst, as long as there are two."""
    finished = [one for one in scored if one[1].is_finished]
    best_first = sorted(finished, key=lambda one: -one[0])  # stable: of equals, the first drawn
    worst_first = sorted(scored, key=lambda one: one[0])
    yield from zip(best_first[: len(scored) // 2], worst_first, strict=False)


def _length_controlled(scored: Sequence[_Scored], rho: float) -> tuple[_Scored, _Scored]:
    """Return the shortest of the near-best and the longest of the near-worst (Meta-Rewarding)."""
    highest, lowest = max(s for s, _ in scored), min(s for s, _ in scored)
    tolerance = rho * (highest - lowest)  # exact where all scores are equal
    near_best = [one for one in scored if one[0] >= highest - tolerance and one[1].is_finished]
    near_worst = [one for one in scored if one[0] <= lowest + tolerance]
    shortest = min(near_best, key=lambda one: one[1].new_tokens)
    return shortest, max(near_worst, key=lambda one: one[1].new_tokens)


def _pair(best: _Scored, worst: _Scored) -> ScoredPair:
    (high, chosen), (low, rejected) = best, worst
    return ScoredPair(chosen.prompt_id, chosen.prompt, chosen.text, rejected.text, high, low,
                      chosen.new_tokens, rejected.new_tokens,
                      rejected.is_finished)  # fmt: skip


def perfect_responses(
    candidates: Iterable[Response], verdicts: Sequence[Verdict], perfect: float
) -> Filtered[Demonstration]:
    """Return the finished responses of perfect mean score, as demonstrations (the paper's ablation)."""
    scores = mean_scores(verdicts)
    given = list(candidates)
    good = [r for r in given if scores.get((r.prompt_id, r.index), float("-inf")) >= perfect]
    kept = [
        Demonstration(f"{r.prompt_id}#{r.index}", "own responses", r.prompt, r.text)
        for r in good
        if r.is_finished
    ]
    dropped = (
        Drop("below the perfect score", len(given) - len(good)),
        Drop("not finished", len(good) - len(kept)),
    )
    return Filtered(
        kept, (Funnel("responses with the perfect score", len(given), len(kept), dropped),)
    )

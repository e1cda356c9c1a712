"""The judge card: how far a judge's verdicts can be trusted (Sec. 3.2's metrics, and biases).

Metrics against a truth compare responses to the same prompt alone. Where the paper does not say what
a tie is worth:

- pairwise accuracy: share of pairs, unequal in truth, that the judge orders alike; its tie is half, and
  in the strict one a miss.
- five best: among responses with the judge's highest score, share that are the truth's best; of
  several equally good ones each is best.
- exact match: share of prompts of which every pair, unequal in truth, is ordered alike; the judge's
  tie is a miss.
- Spearman, Kendall: rank correlations as scipy gives them, Spearman of mid-ranks and Kendall's tau-b,
  mean over prompts. Where all scores of a prompt are one, or all of the truth, scipy gives nan: the
  correlation is undefined, such prompts are left out and counted by reason. Beside it stands the mean in
  which prompts with one score alone count 0: a judge that tells nothing apart orders nothing.

Every interval resamples prompts: responses to one prompt are not independent.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations, groupby
from math import floor
from statistics import fmean, pstdev
from typing import Any, Final

from selfimprove.evaluation.chance import by_chance
from selfimprove.evaluation.clusters import told
from selfimprove.judges.judge import mean_scores
from selfimprove.judges.pairwise import Orders, read_orders
from selfimprove.types import Response, Verdict

__all__ = ["card", "ordered_alike", "prefers_first", "prefers_longer"]

Scores = Mapping[tuple[str, int], float]
_Ranked = tuple[Sequence[float], Sequence[float]]
_TRUTH_METRICS: Final = (
    "pairwise_accuracy", "pairwise_accuracy_strict", "tied_pairs", "five_best", "exact_match",
    "spearman", "kendall", "spearman_ties_as_zero", "kendall_ties_as_zero", "correlated_prompts",
    "undefined_correlations", "chance",
)  # fmt: skip
_TIE: Final = 0.5
_SILENT: Final = "fewer than two scored responses"
_CONSTANT: Final = "one score for all responses"
_LEVEL: Final = "responses of equal truth"


def card(
    responses: Sequence[Response],
    verdicts: Sequence[Verdict],
    truth: Scores | None,
    *,
    highest: float | None,
) -> dict[str, Any]:
    """Return a judge's card as JSON data; a metric that the data says nothing of is None.

    Args:
        responses: that were judged, those of one prompt together.
        verdicts: on them.
        truth: what responses are worth, by prompt id and index; None: only what needs no truth.
        highest: the best score the judge can give; None: its scale has no end, and no response of its is
            among the five best.

    Returns:
        Shares between 0 and 1, `vote_spread` in points (mean standard deviation of a response's
        votes), and the histogram of mean scores, rounded. `tied_pairs` is the share of pairs, unequal in
        truth, that the judge ties; `undefined_correlations` counts prompts by reason; `chance` has what the
        same scores give when they are dealt at random within each prompt. Of a pairwise judge, `self_consistency` is
        the share of comparisons in which both orders agree; of another, the share of responses whose
        votes are all the same.
    """
    scores = mean_scores(verdicts)
    groups = [list(g) for _, g in groupby(responses, key=lambda r: r.prompt_id)]
    return {
        "responses": len(responses),
        "parse_rate": _share(v.score is not None for v in verdicts),
        "unscored": dict(Counter(v.unscored for v in verdicts if v.unscored).most_common()),
        **_steadiness(verdicts),
        **_against_truth(groups, scores, truth, highest),
        "prefers_longer": told(prefers_longer(groups, scores)),
        "prefers_first": told(prefers_first(verdicts)),
        "score_histogram": _histogram(scores),
    }


def _share(found: Iterator[bool]) -> float:
    values = list(found)
    return fmean(values) if values else 0.0


def _steadiness(verdicts: Sequence[Verdict]) -> dict[str, Any]:
    """Return how alike a judge's votes on the same thing are."""
    votes: dict[tuple[str, int], list[float]] = {}
    for v in verdicts:
        kept = votes.setdefault((v.prompt_id, v.index), [])
        kept += [] if v.score is None else [v.score]
    most = max((len(v) for v in votes.values()), default=0)
    asked_both = [o for orders in _orders(verdicts) for o in orders]
    if asked_both:
        return {"votes": most, "self_consistency": fmean(o.agree for o in asked_both),
                "vote_spread": None}  # fmt: skip
    several = [v for v in votes.values() if len(v) > 1]
    return {
        "votes": most,
        "self_consistency": fmean(len(set(v)) == 1 for v in several) if several else None,
        "vote_spread": fmean(pstdev(v) for v in several) if several else None,
    }


def _orders(verdicts: Sequence[Verdict]) -> list[list[Orders]]:
    """Return, by prompt, what a pairwise judge said in both orders; each comparison once."""
    found: dict[str, list[Orders]] = {}
    for v in verdicts:
        if v.said is None or v.opponent is None or v.opponent < v.index:
            continue
        orders = read_orders(v.said)
        if None not in orders:
            found.setdefault(v.prompt_id, []).append(orders)
    return list(found.values())


def prefers_first(verdicts: Sequence[Verdict]) -> list[list[float]]:
    """Return, by prompt, the share that went to whichever response was shown first."""
    return [
        [((o.first or 0.0) + 1 - (o.second or 0.0)) / 2 for o in orders]
        for orders in _orders(verdicts)
    ]


def prefers_longer(groups: Sequence[Sequence[Response]], scores: Scores) -> list[list[float]]:
    """Return, by prompt, whether the longer of two responses (characters) was scored higher.

    Pairs that are equally long or equally scored say nothing.
    """
    return [
        [
            float((scores[_key(a)] > scores[_key(b)]) == (len(a.text) > len(b.text)))
            for a, b in combinations([r for r in group if _key(r) in scores], 2)
            if scores[_key(a)] != scores[_key(b)] and len(a.text) != len(b.text)
        ]
        for group in groups
    ]


def _key(response: Response) -> tuple[str, int]:
    return response.prompt_id, response.index


def _histogram(scores: Scores) -> list[dict[str, int]]:
    counted = Counter(floor(score + 0.5) for score in scores.values())
    if not counted:
        return []
    levels = range(min(counted), max(counted) + 1)
    return [{"score": level, "count": counted[level]} for level in levels]


def _against_truth(
    groups: Sequence[Sequence[Response]],
    scores: Scores,
    truth: Scores | None,
    highest: float | None,
) -> dict[str, Any]:
    if truth is None:
        return dict.fromkeys(_TRUTH_METRICS)
    ranked = list(_ranked(groups, scores, truth))
    told_apart = [pair for pair in ranked if len(set(pair[0])) > 1 and len(set(pair[1])) > 1]
    level = sum(len(set(true)) == 1 for _, true in ranked)
    constant = len(ranked) - level - len(told_apart)
    silent = sum(len(group) > 1 for group in groups) - len(ranked)
    undefined = {_CONSTANT: constant, _LEVEL: level, _SILENT: silent}
    return {
        **_of_pairs([list(ordered_alike(*pair)) for pair in ranked]),
        "five_best": told([list(_best_of(*pair, highest)) for pair in ranked]),
        **_correlations(told_apart, constant),
        "correlated_prompts": len(told_apart),
        "undefined_correlations": {why: count for why, count in undefined.items() if count},
        "chance": by_chance(ranked, highest),
    }


def _of_pairs(alike: Sequence[Sequence[float]]) -> dict[str, Any]:
    """Return how often pairs, by prompt, are ordered as in truth: 1, 0, or 0.5 where they tie."""
    return {
        "pairwise_accuracy": told(alike),
        "pairwise_accuracy_strict": told([[float(one == 1) for one in pairs] for pairs in alike]),
        "tied_pairs": told([[float(one == _TIE) for one in pairs] for pairs in alike]),
        "exact_match": told([[float(min(pairs) == 1)] for pairs in alike if pairs]),
    }


def _ranked(
    groups: Sequence[Sequence[Response]], scores: Scores, truth: Scores
) -> Iterator[_Ranked]:
    """Yield judged and true worth of the responses to each prompt that has two with both."""
    for group in groups:
        keys = [_key(r) for r in group if _key(r) in scores and _key(r) in truth]
        if len(keys) > 1:
            yield [scores[k] for k in keys], [truth[k] for k in keys]


def ordered_alike(judged: Sequence[float], true: Sequence[float]) -> Iterator[float]:
    """Yield, for every two that are unequal in truth, 1 where the judge orders them alike, 0.5 a tie."""
    for a, b in combinations(range(len(true)), 2):
        if true[a] != true[b]:
            agree = (judged[a] - judged[b]) * (true[a] - true[b])
            yield 1.0 if agree > 0 else _TIE if agree == 0 else 0.0


def _best_of(
    judged: Sequence[float], true: Sequence[float], highest: float | None
) -> Iterator[float]:
    for score, worth in zip(judged, true, strict=True):
        if score == highest:
            yield float(worth == max(true))


def _correlations(told_apart: Sequence[_Ranked], constant: int) -> dict[str, float | None]:
    """Return mean rank correlations over prompts in which neither side is constant.

    Args:
        told_apart: judged and true worth, by prompt.
        constant: so many further prompts have one score alone; they count 0 in the second figures.
    """
    from scipy import stats

    of = {
        "spearman": [float(stats.spearmanr(*pair).statistic) for pair in told_apart],
        "kendall": [float(stats.kendalltau(*pair, variant="b").statistic) for pair in told_apart],
    }
    means = {name: fmean(found) if found else None for name, found in of.items()}
    with_ties = {name: [*found, *[0.0] * constant] for name, found in of.items()}
    return means | {
        f"{name}_ties_as_zero": fmean(found) if found else None for name, found in with_ties.items()
    }

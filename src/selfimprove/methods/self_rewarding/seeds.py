"""Judging examples (EFT) from people's rankings: the baseline's own verdicts that agree (Sec. 2.1).

Rankings come without reasons or points. So the SFT baseline judges each ranked response; where its
points put the responses of a prompt in the people's order, its words become examples: the mean of
its votes must do so, and so must the votes whose words are taken. The commonest score is cut down,
since a judge that gives everything a 4 is right too often.

A deviation, `reviews.words: ranks`: a baseline too weak to write verdicts that can be read has none that
agree; then an example says no more than the score, people's ranks spread evenly over the scale.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Final, Literal, Self, TypeAlias

from pydantic import Field, model_validator

from selfimprove.config import Config, load
from selfimprove.data.demonstrations import read_demonstrations, read_ranked
from selfimprove.data.seed_split import LEAST, deal_shared, ift_alone, ranked_alone
from selfimprove.data.sources import Source
from selfimprove.errors import ConfigError
from selfimprove.files import make_folder, write_replacing
from selfimprove.judges.judge import judge, judging_model, mean_scores
from selfimprove.judges.judge_config import JudgeConfig
from selfimprove.judges.judge_prompts import judge_prompt
from selfimprove.judges.own_engine import ChatsAndJudges
from selfimprove.models import locate
from selfimprove.rows import Drop, Filtered, Funnel
from selfimprove.sampling.served import serving
from selfimprove.seeds import rng
from selfimprove.types import Demonstration, Ranked, Response, Verdict

__all__ = [
    "ReviewsConfig",
    "SeedFilesConfig",
    "agreeing_reviews",
    "reviews_by_rank",
    "siblings",
    "spread",
    "write_seed_files",
]

_SHARD: Final = 256

Key: TypeAlias = tuple[str, int]
"""A ranked response: its prompt's id, and its rank."""


class ReviewsConfig(Config):
    """Which verdicts become judging examples."""

    words: Literal["own", "ranks"] = "own"
    """own: the baseline's verdicts that agree with people, reasons and all, as in the paper. ranks: the
    score alone, the best response with the highest and the worst with the lowest of the scale."""

    agreement: float = Field(default=1.0, gt=0, le=1)
    """Least share of a prompt's pairs of responses that the verdicts must order as people did, by
    their means and by the votes that are shown; ties do not. Paper: the ranking must agree."""
    balance: bool = True
    """Cut the commonest score down to the second commonest. Paper: score 4 was cut down."""

    @model_validator(mode="after")
    def _one_source_of_scores(self) -> Self:
        if self.words == "ranks" and self.agreement < 1:
            raise ValueError("agreement is of verdicts: scores by people's ranks agree with them")
        return self


def siblings(ranked: Sequence[Ranked]) -> list[Response]:
    """Return ranked responses as responses to be judged; the index is the rank."""
    return [
        Response(row.id, row.prompt, rank, text, "stop", 0)
        for row in ranked
        for rank, text in enumerate(row.responses)
    ]


def agreeing_reviews(  # noqa: PLR0913  rankings, what was said of them, and what to keep
    ranked: Sequence[Ranked],
    shown: Sequence[Response],
    verdicts: Sequence[Verdict],
    given: Sequence[Demonstration],
    prompt: str,
    config: ReviewsConfig,
    seed: int,
) -> Filtered[Demonstration]:
    """Return `given` and the verdicts that agree with people's rankings, as judging examples.

    Of a response's votes the first one of the score nearest to their mean is taken. A pair of
    responses counts as ordered where both the means and the votes taken put it in people's order.
    """
    scores = mean_scores(verdicts)
    taken = _taken(verdicts, scores)
    text_of = {(r.prompt_id, r.index): r.text for r in shown}
    kept: list[tuple[float, Demonstration]] = []
    dropped: Counter[str] = Counter()
    for row in ranked:
        why = _why_dropped(row, scores, taken, config)
        if why:
            dropped[why] += 1
            continue
        for verdict in (taken[row.id, rank] for rank in range(len(row.responses))):
            key = f"{row.id}#{verdict.index}"
            response = text_of[row.id, verdict.index]
            asked = judge_prompt(prompt).filled(key, row.prompt, response)
            example = Demonstration(f"eft-{key}", row.source, asked, verdict.text)
            kept.append((_points(verdict), example))
    balanced = _balanced(kept, seed) if config.balance else kept
    drops = tuple(Drop(w, n) for w, n in dropped.most_common())
    agreeing = Funnel("rankings that the baseline agrees with", len(ranked),
                      len(ranked) - dropped.total(), drops)  # fmt: skip
    rows = [*given, *(example for _, example in balanced)]
    return Filtered(rows, (agreeing, _examples(kept, balanced)))


def reviews_by_rank(
    ranked: Sequence[Ranked],
    given: Sequence[Demonstration],
    prompt: str,
    config: ReviewsConfig,
    seed: int,
) -> Filtered[Demonstration]:
    """Return `given` and an example for each ranked response: the score that its rank gives it."""
    asked = judge_prompt(prompt)
    told: list[tuple[float, Demonstration]] = []
    for row in ranked:
        for rank, response in enumerate(row.responses):
            key = f"{row.id}#{rank}"
            points = spread(rank, len(row.responses), asked.lowest, asked.highest)
            filled = asked.filled(key, row.prompt, response)
            told.append(
                (points, Demonstration(f"eft-{key}", row.source, filled, f"Score: {points}"))
            )
    kept = _balanced(told, seed) if config.balance else told
    return Filtered([*given, *(example for _, example in kept)], (_examples(told, kept),))


def spread(rank: int, of: int, lowest: int, highest: int) -> int:
    """Return the points of a rank, 0 the best of `of`, spread evenly over the scale.

    >>> [spread(rank, 4, 0, 5) for rank in range(4)]
    [5, 3, 2, 0]
    """
    return round(highest - rank * (highest - lowest) / (of - 1))


def _examples(
    given: Sequence[tuple[float, Demonstration]], kept: Sequence[tuple[float, Demonstration]]
) -> Funnel:
    common = (Drop("of the commonest score", len(given) - len(kept)),)
    return Funnel("judging examples", len(given), len(kept), common)


def _why_dropped(
    row: Ranked,
    means: Mapping[Key, float],
    taken: Mapping[Key, Verdict],
    config: ReviewsConfig,
) -> str | None:
    keys = [(row.id, rank) for rank in range(len(row.responses))]
    if any(key not in means for key in keys):
        return "a response without a score"
    if any(key not in taken for key in keys):
        return "a verdict was cut off"
    pairs = list(combinations(keys, 2))  # people's better one first
    by_mean = [(a, b) for a, b in pairs if means[a] > means[b]]
    by_both = [(a, b) for a, b in by_mean if _points(taken[a]) > _points(taken[b])]
    if len(by_mean) < config.agreement * len(pairs):
        return "scores do not rank the responses as people did"
    if len(by_both) < config.agreement * len(pairs):
        return "the verdicts to be shown do not rank the responses as people did"
    return None


def _taken(verdicts: Sequence[Verdict], means: Mapping[Key, float]) -> dict[Key, Verdict]:
    """Return the vote of each scored response whose words are taken: one that came to its end."""
    votes: dict[Key, list[Verdict]] = {}
    for verdict in verdicts:
        if verdict.score is not None and verdict.is_finished:
            votes.setdefault((verdict.prompt_id, verdict.index), []).append(verdict)
    return {
        key: min(cast, key=lambda v: abs(_points(v) - means[key])) for key, cast in votes.items()
    }


def _points(verdict: Verdict) -> float:
    """Return the score of a verdict that is known to have one."""
    return verdict.score or 0.0


def _balanced(
    rows: Sequence[tuple[float, Demonstration]], seed: int
) -> list[tuple[float, Demonstration]]:
    """Cut the commonest score down to as many rows as the second commonest has."""
    counted = Counter(score for score, _ in rows).most_common(2)
    if len(counted) < 2:
        return list(rows)
    (commonest, count), (_, second) = counted
    places = [i for i, (score, _) in enumerate(rows) if score == commonest]
    left_out = set(rng(seed, "balance").sample(places, count - second))
    return [row for i, row in enumerate(rows) if i not in left_out]


class SeedFilesConfig(ChatsAndJudges):
    """What `selfimprove data seeds` does beyond reading."""

    judge: JudgeConfig = JudgeConfig()
    """How the model judges the ranked responses."""
    reviews: ReviewsConfig = ReviewsConfig()
    """Which verdicts are kept."""
    eft_share: float = Field(default=LEAST, gt=0, lt=1)
    """Share of the prompts with ranked responses that is judged, and not in ift.jsonl."""

    @model_validator(mode="after")
    def _reviews_by_a_rubric(self) -> Self:
        if self.judge.kind != "rubric":
            raise ValueError(
                "judge.kind: judging examples are reviews by a rubric, and a "
                f"{self.judge.kind} judge writes none"
            )
        return self


def write_seed_files(
    source: Source, out: Path, model: str | None, config: SeedFilesConfig, seed: int
) -> tuple[Funnel, ...]:
    """Write ift.jsonl, and eft.jsonl where a model judges or ranks are enough; return every funnel.

    No prompt is in both files.

    Raises:
        DataError: the file cannot be read, or a row of it is broken.
        JudgeError: the model gives no verdicts that can be read.
    """
    if model is not None and config.reviews.words == "ranks":
        raise ConfigError("reviews.words=ranks takes the scores from people: leave --model out")
    ift = read_demonstrations((source,), seed)
    if model is None and config.reviews.words == "own":
        _write(out / "ift.jsonl", ift.rows)
        return ift.funnels
    read = read_ranked((source,))
    shared = deal_shared((d.prompt for d in ift.rows), (r.prompt for r in read.rows),
                         config.eft_share, seed)  # fmt: skip
    answered, ranked = ift_alone(ift.rows, shared), ranked_alone(read.rows, shared)
    _write(out / "ift.jsonl", answered.rows)
    if model is None:
        eft = reviews_by_rank(ranked.rows, (), config.judge.prompt, config.reviews, seed)
    else:
        eft = _judged(ranked.rows, model, config, seed)
    _write(out / "eft.jsonl", eft.rows)
    read_first = (*ift.funnels, *read.funnels)
    return (*read_first, *answered.funnels, *ranked.funnels, *eft.funnels)


def _judged(
    ranked: Sequence[Ranked], model: str, config: SeedFilesConfig, seed: int
) -> Filtered[Demonstration]:
    """Let the model judge the ranked responses, and return the verdicts that agree with people."""
    shown = siblings(ranked)
    chunks = [shown[i : i + _SHARD] for i in range(0, len(shown), _SHARD)]
    by = judging_model(config.judge, locate(model))
    with serving(by, config.judge.engine or config.engine) as asked:
        batches = judge(chunks, asked, config.judge, seed)
        said = [verdict for batch in batches for verdict in batch.rows]
    return agreeing_reviews(ranked, shown, said, (), config.judge.prompt, config.reviews, seed)


def _write(path: Path, rows: Sequence[Demonstration]) -> None:
    make_folder(path.parent)
    lines = [
        json.dumps({"id": r.id, "source": r.source, "prompt": r.prompt, "completion": r.response},
                   ensure_ascii=False)
        for r in rows
    ]  # fmt: skip
    write_replacing(path, "".join(f"{line}\n" for line in lines).encode())


def seed_files_config(tree: dict[str, object]) -> SeedFilesConfig:
    """Check the overrides of the command line."""
    return load(SeedFilesConfig, tree, "overrides")

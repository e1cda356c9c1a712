"""The vote of every question over its sampled paths, as rows."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import inf
from typing import TypeAlias

from selfimprove.answers.answers import vote
from selfimprove.config import Config
from selfimprove.errors import ConfigError
from selfimprove.own_code import OwnCode, load_named
from selfimprove.types import Question, ReasoningPath

__all__ = [
    "AnswerClass",
    "VoteConfig",
    "VotedQuestion",
    "Weigh",
    "held_votes",
    "vote_each",
    "weighted_votes",
]


class VoteConfig(Config):
    """How paths are counted (Sec. 3.1)."""

    weights: OwnCode | None = None
    """module:name or path/to/file.py:name of a function that gets a question's paths and returns a
    weight, not negative, for each; None: every path counts alike (paper)."""


@dataclass(frozen=True, slots=True)
class AnswerClass:
    """Answers that mean the same, and how many paths reach them."""

    answer: str
    votes: int


@dataclass(frozen=True, slots=True)
class VotedQuestion:
    """The outcome of one question's vote."""

    question_id: str
    dataset: str
    question: str
    winner: str | None
    """The majority answer; None when no path stated one."""
    confidence: float
    """Paths that reach the winner / all paths, silent ones included; by their weights."""
    tied: bool
    paths: int
    silent: int
    agreeing: tuple[int, ...]
    """Indices of the paths that reach the winner."""
    classes: tuple[AnswerClass, ...]


Weigh: TypeAlias = Callable[[list[ReasoningPath]], Sequence[float]]
"""A question's paths, and what each of them counts."""


def vote_each(questions: Sequence[Question], paths: Sequence[ReasoningPath]) -> list[VotedQuestion]:
    """Hold the vote of every question over all its paths; each counts alike (paper)."""
    return held_votes(questions, paths)


def weighted_votes(
    questions: Sequence[Question], paths: Sequence[ReasoningPath], config: VoteConfig
) -> list[VotedQuestion]:
    """Hold the votes as a recipe has them counted.

    Raises:
        ConfigError: a weight is no number from 0 on, or there is not one for each path.
    """
    return held_votes(questions, paths, load_named(config.weights) if config.weights else None)


def held_votes(
    questions: Sequence[Question], paths: Sequence[ReasoningPath], weigh: Weigh | None = None
) -> list[VotedQuestion]:
    """Hold the vote of every question over all its paths.

    Raises:
        ConfigError: a weight is no number from 0 on, or there is not one for each path.
    """
    of: dict[str, list[ReasoningPath]] = defaultdict(list)
    for path in paths:
        of[path.question_id].append(path)
    ballots = ((q, sorted(of[q.id], key=lambda p: p.index)) for q in questions)
    return [_vote_one(q, held, _weights(held, weigh) if weigh else None) for q, held in ballots]


def _weights(paths: list[ReasoningPath], weigh: Weigh) -> list[float]:
    weights = [float(w) for w in weigh(paths)]
    if len(weights) != len(paths) or not all(0 <= w < inf for w in weights):
        raise ConfigError(
            f"the vote's weights must be one number from 0 on for each of {len(paths)} paths; the "
            f"function gave {weights[:5]}"
        )
    return weights


def _vote_one(
    question: Question, paths: Sequence[ReasoningPath], weights: Sequence[float] | None
) -> VotedQuestion:
    result = vote([p.answer for p in paths], question.answer_type, weights)
    return VotedQuestion(
        question_id=question.id,
        dataset=question.dataset,
        question=question.text,
        winner=result.answer,
        confidence=result.confidence,
        tied=result.tied,
        paths=len(paths),
        silent=sum(p.answer is None for p in paths),
        agreeing=tuple(paths[i].index for i in result.members),
        classes=tuple(AnswerClass(c.answer, c.votes) for c in result.classes),
    )

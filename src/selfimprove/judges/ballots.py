"""The vote of every question over its sampled paths, as rows."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from selfimprove.judges.answers import vote
from selfimprove.types import Question, ReasoningPath

__all__ = ["AnswerClass", "VotedQuestion", "vote_each"]


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
    """Paths that reach the winner / all paths, silent ones included."""
    tied: bool
    paths: int
    silent: int
    agreeing: tuple[int, ...]
    """Indices of the paths that reach the winner."""
    classes: tuple[AnswerClass, ...]


def vote_each(questions: Sequence[Question], paths: Sequence[ReasoningPath]) -> list[VotedQuestion]:
    """Hold the vote of every question over all its paths."""
    of: dict[str, list[ReasoningPath]] = defaultdict(list)
    for path in paths:
        of[path.question_id].append(path)
    return [_vote_one(q, sorted(of[q.id], key=lambda p: p.index)) for q in questions]


def _vote_one(question: Question, paths: Sequence[ReasoningPath]) -> VotedQuestion:
    result = vote([p.answer for p in paths], question.answer_type)
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

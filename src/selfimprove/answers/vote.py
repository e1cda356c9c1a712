"""The majority answer of many reasoning paths (LMSI Sec. 3.1)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from selfimprove.answers.equality import key, same
from selfimprove.types import AnswerType

__all__ = ["AnswerVotes", "Vote", "vote"]


@dataclass(frozen=True, slots=True)
class AnswerVotes:
    """Answers that mean the same."""

    answer: str
    """As it was first written."""
    members: tuple[int, ...]
    """Which of the paths state it."""
    weight: float
    """The sum of theirs."""

    @property
    def votes(self) -> int:
        """How many paths state it."""
        return len(self.members)


@dataclass(frozen=True, slots=True)
class Vote:
    """The outcome of a vote."""

    answer: str | None
    """The majority answer; None when no path states one."""
    confidence: float
    """Weight of the paths that state it / of all paths: a model that rarely answers must not look sure."""
    members: tuple[int, ...]
    """Which of the paths state it."""
    tied: bool
    """Another answer has as much weight; the one met first won."""
    classes: tuple[AnswerVotes, ...]
    """All answers, in the order they were first met."""


# --8<-- [start:vote]
def vote(
    answers: Sequence[str | None], answer_type: AnswerType, weights: Sequence[float] | None = None
) -> Vote:
    """Hold a vote over the answers of all paths; None is a path that states no answer.

    Every path has one vote (the paper), or the weight that is given for it.

    >>> result = vote(["18", None, "18.0", "20", None], "number")
    >>> result.answer, result.confidence, result.members
    ('18', 0.4, (0, 2))
    """
    held = [1.0] * len(answers) if weights is None else weights
    classes = _classes(answers, answer_type, held)
    if not classes:
        return Vote(None, 0.0, (), False, ())
    winner = max(classes, key=lambda c: c.weight)  # the first of several
    return Vote(
        answer=winner.answer,
        confidence=winner.weight / sum(held) if winner.weight else 0.0,
        members=winner.members,
        tied=sum(c.weight == winner.weight for c in classes) > 1,
        classes=tuple(classes),
    )


def _classes(
    answers: Sequence[str | None], answer_type: AnswerType, weights: Sequence[float]
) -> list[AnswerVotes]:
    """Group equal answers, each compared with the first one of a group."""
    members: dict[str, list[int]] = {}
    leader: dict[str, str] = {}
    for index, answer in enumerate(answers):
        if answer is None:
            continue
        name = key(answer, answer_type)
        if name not in leader:
            leader[name] = next((m for m in members if same(m, name, answer_type)), name)
        members.setdefault(leader[name], []).append(index)
    return [
        AnswerVotes(str(answers[found[0]]), tuple(found), sum(weights[i] for i in found))
        for found in members.values()
    ]


# --8<-- [end:vote]

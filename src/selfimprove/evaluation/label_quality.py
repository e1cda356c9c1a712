"""How good the labels were that a model gave itself, where gold answers are at hand: told afterwards.

What LMSI needs is a majority that is right more often than one of its members (Sec. 3.1): where the
vote is no better than a path, there is nothing in it to learn.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from selfimprove.answers.answers import matches
from selfimprove.answers.ballots import VotedQuestion
from selfimprove.evaluation.intervals import mean, paired
from selfimprove.types import Labelled, ReasoningPath

__all__ = ["label_quality"]


@dataclass(frozen=True, slots=True)
class _Held:
    """One question's vote, against its gold answers; shares of its paths."""

    right: float
    """Of all of them, those that are right; a silent one is wrong."""
    vote: float
    """1: the majority answer is right."""
    kept: int
    """Of its paths, those that are trained on."""


def label_quality(
    number: int,
    votes: Sequence[VotedQuestion],
    kept: Sequence[ReasoningPath],
    labelled: Sequence[Labelled],
) -> dict[str, Any] | None:
    """Return how often the vote of a round, one path, and a path that was kept are right.

    Args:
        number: of the round.
        votes: on training questions.
        kept: paths that are trained on.
        labelled: training questions with their answers; those without any are left out.

    Returns:
        JSON data, each share with its 95 % interval; None: no question of a vote has a gold answer.
    """
    # By text as well: a file that changed since counts its rows otherwise.
    of = {(x.question.id, x.question.text): x for x in labelled if x.gold}
    trained_on = Counter(path.question_id for path in kept)
    known = [v for v in votes if (v.question_id, v.question) in of]
    held = [_held(v, trained_on[v.question_id], of[v.question_id, v.question]) for v in known]
    if not held:
        return None
    paths, majority = [h.right for h in held], [h.vote for h in held]
    gain, total = paired(paths, majority), sum(h.kept for h in held)
    return {
        "round": number,
        "questions": len(held),
        "path": _told(paths),
        "vote": _told(majority),
        "difference": {"value": gain.difference, "interval": [gain.low, gain.high]},
        "kept_paths": total,
        "kept_right": sum(h.kept * h.vote for h in held) / total if total else None,
    }


def _held(vote: VotedQuestion, kept: int, item: Labelled) -> _Held:
    kind = item.question.answer_type
    right = sum(c.votes for c in vote.classes if matches(c.answer, item.gold, kind))
    won = vote.winner is not None and matches(vote.winner, item.gold, kind)
    return _Held(right / vote.paths if vote.paths else 0.0, float(won), kept)


def _told(values: Sequence[float]) -> dict[str, Any]:
    estimate = mean(values)
    return {"value": estimate.value, "interval": [estimate.low, estimate.high]}

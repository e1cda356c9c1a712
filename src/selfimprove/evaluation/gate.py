"""The gate: a new model is promoted only when it is not worse than its parent, by greedy answers.

Its questions are never those that are reported. They are `data.dev`; without it a part of the training
questions, held back from training: with their gold answers where the data holds them, else with the
majority answer of the model that draws the paths. Where there are too few to hold any back there is
no gate, and the report says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from selfimprove.data.overlap import HeldOutTexts, find_overlaps, same_text
from selfimprove.data.sources import Source
from selfimprove.evaluation.accuracy import Answered, HeldOut, greedy_hits, majorities
from selfimprove.evaluation.intervals import paired
from selfimprove.evaluation.labels import read_labels
from selfimprove.rows import Drop, Filtered, Funnel
from selfimprove.seeds import rng
from selfimprove.types import Question

__all__ = [
    "Verdict",
    "compare",
    "held_back",
    "needs_votes",
    "not_reported",
    "to_learn_from",
    "with_majorities",
]

_SHARE: Final = 0.1  # of the training questions
_USUAL: Final = 16  # however few those are
_MOST: Final = 500  # tells a difference of 3 points; more would be taken from training for little
_LEFT: Final = 4  # of so many questions no more than one is held back
_FEWEST: Final = 8  # fewer say nothing of a model
_SET: Final = "held back"


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a model took its parent's place, and on what evidence; without a gate there is none."""

    promoted: bool
    reason: str
    difference: float | None = None
    interval: tuple[float, float] | None = None
    n: int | None = None


def compare(parent: Sequence[Answered], child: Sequence[Answered]) -> Verdict:
    """Promote the child unless its greedy chain-of-thought accuracy is below its parent's.

    Raises:
        KeyError: the two answered different questions.
    """
    before, after = greedy_hits(parent), greedy_hits(child)
    against = paired([before[q] for q in after], list(after.values()))
    promoted = against.difference >= 0
    word = "not worse than" if promoted else "worse than"
    reason = f"{word} its parent: {against.wins} questions won, {against.losses} lost"
    return Verdict(promoted, reason, against.difference, (against.low, against.high), len(after))


def held_back(
    questions: Sequence[Question],
    sources: Sequence[Source],
    reported: Sequence[HeldOut],
    seed: int,
) -> list[HeldOut]:
    """Return the training questions that the gate holds back: a tenth, 16 to 500, at most a quarter.

    They carry their gold answers, or none at all where too few training questions have one.

    Args:
        questions: those to learn from.
        sources: where they come from; their answers are read there.
        reported: held-out questions; the gate asks none of them.
        seed: of the draw.
    """
    tested = {same_text(item.labelled.question.text) for item in reported}
    pool = [q for q in questions if same_text(q.text) not in tested]
    count = min(max(int(_SHARE * len(pool)), _USUAL), _MOST, len(pool) // _LEFT)
    if count < _FEWEST:
        return []
    of = {x.question.id: x for x in read_labels(sources, need_gold=False)}
    known = [q for q in pool if of[q.id].gold]
    by_gold = len(known) >= count
    drawn = rng(seed, "gate questions").sample(known if by_gold else pool, count)
    return [HeldOut(_SET, "in", of[q.id] if by_gold else replace(of[q.id], gold=())) for q in drawn]


def not_reported(questions: Sequence[HeldOut], reported: Sequence[HeldOut]) -> Filtered[HeldOut]:
    """Leave out gate questions that are reported, too: a model must not be chosen by those."""
    tested = HeldOutTexts("reported", tuple(x.labelled.question.text for x in reported))
    (found,) = find_overlaps([x.labelled.question.text for x in questions], [tested])
    kept = [item for place, item in enumerate(questions) if place not in found.places]
    dropped = (
        Drop("is a reported question", len(found.exact)),
        Drop("is nearly a reported question", len(found.near)),
    )
    return Filtered(kept, (Funnel("gate questions", len(questions), len(kept), dropped),))


def to_learn_from(questions: Sequence[Question], apart: Sequence[HeldOut]) -> Filtered[Question]:
    """Leave out what the gate holds back, and what nearly is that: a set may hold a question twice."""
    asked = HeldOutTexts(_SET, tuple(item.labelled.question.text for item in apart))
    (found,) = find_overlaps([q.text for q in questions], [asked])
    kept = [q for place, q in enumerate(questions) if place not in found.places]
    dropped = (
        Drop("held back for the gate", len(found.exact)),
        Drop("nearly a question held back for the gate", len(found.near)),
    )
    return Filtered(kept, (Funnel("training questions", len(questions), len(kept), dropped),))


def with_majorities(questions: Sequence[HeldOut], answers: Sequence[Answered]) -> Filtered[HeldOut]:
    """Label questions that have no gold answer by the majority of a model's sampled answers."""
    winner = majorities(answers)
    kept = [
        replace(item, labelled=replace(item.labelled, gold=(found,)))
        for item in questions
        if (found := winner.get(item.labelled.question.id)) is not None
    ]
    dropped = (Drop("no sampled path states an answer", len(questions) - len(kept)),)
    return Filtered(
        kept, (Funnel("gate questions with a vote", len(questions), len(kept), dropped),)
    )


def needs_votes(questions: Sequence[HeldOut]) -> bool:
    """Tell whether gate questions are without gold answers, so that a vote has to label them."""
    return any(not item.labelled.gold for item in questions)

"""What an LMSI run holds out of all that it learns from, and out of the exemplars it shows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

from selfimprove.data.exemplars import ExemplarSet, shipped_sets
from selfimprove.data.sources import DataConfig
from selfimprove.evaluation.overlaps import Decontamination, held_out_questions
from selfimprove.rows import Rows
from selfimprove.store import Run
from selfimprove.types import Question, UserPrompt

__all__ = ["decontamination", "shown_exemplars"]


class HoldsOut(Protocol):
    """The part of a recipe that this file reads."""

    @property
    def data(self) -> DataConfig: ...
    @property
    def decontaminate(self) -> bool: ...


def decontamination(config: HoldsOut, steps: Run) -> Decontamination:
    """Read the questions of every held-out set: test, out of domain, and dev.

    Raises:
        DataError: a file cannot be read, or a row of it is broken.
    """
    data = config.data
    sets = (("test", data.test), ("ood", data.ood), ("dev", data.dev))
    held_out = steps.rows("held-out-texts", held_out_questions, sets)
    return Decontamination(steps, held_out, config.decontaminate)


def shown_exemplars(apart: Decontamination, questions: Rows[Question]) -> tuple[ExemplarSet, ...]:
    """Return the shipped exemplars of the questions' datasets, without those that are held out."""
    sets = shipped_sets({q.dataset for q in questions})
    asked = apart.steps.rows("exemplars", exemplar_questions, sets)
    found = {r.id for r in apart.repeats("exemplars", asked)} if asked else set()
    if not found or not apart.removes:
        return sets
    return tuple(
        replace(
            s, exemplars=tuple(e for n, e in enumerate(s.exemplars) if _name(s, n) not in found)
        )
        for s in sets
    )


def exemplar_questions(sets: Sequence[ExemplarSet]) -> list[UserPrompt]:
    """Return what the exemplars ask."""
    return [
        UserPrompt(_name(s, number), s.dataset, exemplar.question)
        for s in sets
        for number, exemplar in enumerate(s.exemplars)
    ]


def _name(of: ExemplarSet, number: int) -> str:
    return f"{of.dataset}-{number}"

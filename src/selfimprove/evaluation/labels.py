"""The training questions with their answers: for the gate and for the control arm by gold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from selfimprove.data.read import read_labelled
from selfimprove.data.sources import Source, distinct
from selfimprove.types import Labelled

__all__ = ["known_labels", "read_labels"]


def read_labels(sources: Sequence[Source], *, need_gold: bool = True) -> list[Labelled]:
    """Read the training questions with their answers; the ids are those of `training_questions`.

    Raises:
        DataError: a file cannot be read, or a question has no answer and `need_gold`.
    """
    read = [
        labelled
        for source in sources
        for labelled in source.part(
            read_labelled(
                source.source,
                source.format,
                limit=source.end,
                need_gold=need_gold,
                reshape=source.reshape,
            )
        )
    ]
    names = distinct(x.question.id for x in read)
    return [
        replace(x, question=replace(x.question, id=name))
        for x, name in zip(read, names, strict=True)
    ]


def known_labels(sources: Sequence[Source]) -> list[Labelled]:
    """Read the training questions that have answers.

    Raises:
        DataError: a file cannot be read.
    """
    return [labelled for labelled in read_labels(sources, need_gold=False) if labelled.gold]

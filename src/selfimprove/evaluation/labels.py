"""The training questions with their answers: for the gate and for the control arm by gold."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from selfimprove.data.read import read_labelled
from selfimprove.data.sources import Source, distinct
from selfimprove.types import Labelled

__all__ = ["read_labels", "read_labels_there_are"]


def read_labels(sources: Sequence[Source]) -> list[Labelled]:
    """Read the training questions with their answers; the ids are those of `training_questions`.

    Raises:
        DataError: a file cannot be read, or a question has no answer.
    """
    return _named(x for s in sources for x in read_labelled(s.source, s.format, limit=s.limit))


def read_labels_there_are(sources: Sequence[Source]) -> list[Labelled]:
    """Read them likewise, without gold where the data holds none.

    Raises:
        DataError: a file cannot be read, or a row of it is broken.
    """
    return _named(
        x
        for s in sources
        for x in read_labelled(s.source, s.format, limit=s.limit, need_gold=False)
    )


def _named(found: Iterable[Labelled]) -> list[Labelled]:
    read = list(found)
    names = distinct(x.question.id for x in read)
    return [
        replace(x, question=replace(x.question, id=name))
        for x, name in zip(read, names, strict=True)
    ]

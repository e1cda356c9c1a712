"""MT-Bench's files: questions of two turns, and the reference answers to some of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Final, TypeVar

from selfimprove.data.formats import rows_of
from selfimprove.data.row import Fields, RowError, text
from selfimprove.data.tables import records
from selfimprove.errors import DataError

__all__ = ["TURNS", "TwoTurns", "read_questions"]

T = TypeVar("T")

TURNS: Final = 2
_GUIDED: Final = ("math", "reasoning", "coding")
"""Categories that are judged beside a reference answer."""


@dataclass(frozen=True, slots=True)
class TwoTurns:
    """A question, and the one that follows it."""

    id: str
    category: str
    turns: tuple[str, str]
    reference: tuple[str, str] | None
    """Good answers to both turns, where the judge is to see some."""


def read_questions(
    path: Path, references: Path | None = None, limit: int | None = None
) -> list[TwoTurns]:
    """Read `question.jsonl`, with `reference_answer/gpt-4.jsonl` for mathematics, reasoning and coding.

    Raises:
        DataError: a file cannot be read, a row is broken, or a question that needs a reference has none.
    """
    given = dict(_read(references, _reference, None)) if references else {}
    return list(_read(path, lambda fields: _question(fields, given), limit))


def _read(path: Path, parse: Callable[[Fields], T], limit: int | None) -> Iterator[T]:
    for record in islice(records(path, rows_of), limit):
        try:
            if record.fields is None:
                raise RowError(record.problem)
            yield parse(record.fields)
        except RowError as error:
            raise DataError(f"{path}, {record.place}: {error}") from error


def _question(fields: Fields, given: Mapping[str, tuple[str, str]]) -> TwoTurns:
    name, category = str(fields.get("question_id", "")), text(fields, "category")
    if not name:
        raise RowError("has no question_id")
    reference = None
    if category in _GUIDED:
        reference = given.get(name)
        if reference is None:
            raise RowError(
                f"question {name} is of {category}, which is judged beside a reference answer: give "
                "--references reference_answer/gpt-4.jsonl with an answer to it"
            )
    return TwoTurns(name, category, _two(fields.get("turns")), reference)


def _reference(fields: Fields) -> tuple[str, tuple[str, str]]:
    choices = fields.get("choices")
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], Mapping):
        raise RowError("has no choices")
    return str(fields.get("question_id", "")), _two(choices[0].get("turns"))


def _two(turns: Any) -> tuple[str, str]:  # noqa: ANN401  whatever the file holds
    if (
        not isinstance(turns, list)
        or len(turns) != TURNS
        or not all(isinstance(t, str) for t in turns)
    ):
        raise RowError("turns is no list of two texts")
    return turns[0], turns[1]

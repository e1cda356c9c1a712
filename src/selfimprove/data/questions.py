"""A user's own questions: `question`, and where there is one `answer`, `choices`, `answer_type`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from selfimprove.answer_kinds import as_kept
from selfimprove.data.gold_numbers import plain_number
from selfimprove.data.row import Fields, Item, RowError, choice_item, optional, text
from selfimprove.data.strategyqa import yes_or_no
from selfimprove.data.tables import is_text
from selfimprove.errors import ConfigError
from selfimprove.types import AnswerType

__all__ = ["parse"]

_NLI = ("yes", "no", "it is not possible to tell")


def parse(fields: Fields) -> Item:
    """Read a row; without `answer_type` it is choice where there are `choices`, else by the answer.

    `choices` is a list of texts, and `answer` then a letter or one of the texts. `answers` may
    list several accepted ones. A number is one that reads as such, everything else is a span.
    """
    answers = _answers(fields)
    choices = _choices(fields.get("choices"))
    answer_type = _answer_type(optional(fields, "answer_type"), answers, choices)
    question, rationale = text(fields, "question"), optional(fields, "rationale")
    native_id = optional(fields, "id")
    if answer_type == "choice":
        gold = _place(answers[0], choices) if answers else None
        return choice_item(question, choices, gold, native_id=native_id, rationale=rationale)
    checked = tuple(_checked(answer, answer_type) for answer in answers)
    return Item(question, answer_type, checked, rationale=rationale, native_id=native_id)


def _answers(fields: Fields) -> list[str]:
    several = fields.get("answers")
    if several is None:
        one = optional(fields, "answer")
        return [] if one is None else [one]
    if not isinstance(several, list | tuple):
        raise RowError(f"'answers' is {type(several).__name__}, not a list")
    return [str(answer).strip() for answer in several if str(answer).strip()]


def _choices(given: Any) -> list[str]:  # noqa: ANN401  whatever the file holds
    if isinstance(given, str) and given.strip():
        given = _from_cell(given)
    if isinstance(given, Mapping):
        given = list(given.values())
    if given is not None and given != "" and not isinstance(given, list | tuple):
        raise RowError(f"'choices' is {type(given).__name__}, not a list of texts")
    return [str(choice).strip() for choice in given or []]


def _from_cell(cell: str) -> Any:  # noqa: ANN401  whatever the cell holds
    """A cell of a .csv holds its choices as a JSON list."""
    problem = RowError("'choices' in a cell must be a JSON list of texts")
    try:
        found = json.loads(cell)
    except (ValueError, RecursionError):
        raise problem from None
    if not is_text(found):
        raise problem
    return found


def _answer_type(named: str | None, answers: list[str], choices: list[str]) -> AnswerType:
    if named is not None:
        try:
            return as_kept(named)
        except ConfigError as error:
            raise RowError(f"'answer_type' is {named!r}: {error}") from error
    if choices:
        return "choice"
    return "number" if answers and all(map(_is_number, answers)) else "span"


def _is_number(answer: str) -> bool:
    try:
        plain_number(answer)
    except RowError:
        return False
    return True


def _place(answer: str, choices: list[str]) -> int:
    if answer in choices:
        return choices.index(answer)
    letter = answer.strip("(). ").upper()
    place = ord(letter) - ord("A") if len(letter) == 1 else -1
    if not 0 <= place < len(choices):
        raise RowError(f"its answer {answer!r} is neither a letter nor one of its choices")
    return place


def _checked(answer: str, answer_type: AnswerType) -> str:
    if answer_type == "yes_no":
        return yes_or_no(answer)[0]
    if answer_type == "nli" and answer.lower() not in _NLI:
        raise RowError(f"its answer {answer!r} is none of {', '.join(_NLI)}")
    return answer.lower() if answer_type == "nli" else answer

"""MMLU: exam questions of 57 subjects with four choices (Hendrycks et al. 2021)."""

from __future__ import annotations

from selfimprove.data.row import Fields, Item, RowError, choice_item, optional, text, value

__all__ = ["parse"]

_LETTERS = "ABCDEFGHIJ"


def parse(fields: Fields) -> Item:
    """Read `question`, `choices` and `answer`, its place from 0 or its letter; MMLU-Pro says `options` and `answer_index`.

    Raises:
        RowError: a field is missing, or the answer is none of the choices.
    """
    choices = value(fields, "choices", "options")
    if not isinstance(choices, list | tuple) or not choices:
        raise RowError("'choices' is not a list of texts")
    gold = optional(fields, "answer", "answer_index")
    return choice_item(
        text(fields, "question"),
        [str(choice).strip() for choice in choices],
        None if gold is None else _place(gold, len(choices)),
        native_id=optional(fields, "question_id", "id"),
    )


def _place(gold: str, count: int) -> int:
    place = int(gold) if gold.isdecimal() else _LETTERS.find(gold.upper())
    if len(gold) > 2 or not 0 <= place < count:
        raise RowError(f"its answer {gold!r} is none of its {count} choices")
    return place

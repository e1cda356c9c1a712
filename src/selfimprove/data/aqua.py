"""AQuA-RAT: algebra with five choices and a rationale (Ling et al. 2017)."""

from __future__ import annotations

import re

from selfimprove.data.row import Fields, Item, RowError, choice_item, optional, text, value

__all__ = ["parse"]

_LETTERED = re.compile(r"\s*\(?([A-Z])\s*[).:]\s*")


def parse(fields: Fields) -> Item:
    """Read `question`, `options` such as 'A)21', `correct` and `rationale`."""
    given = value(fields, "options")
    if not isinstance(given, list | tuple):
        raise RowError(f"'options' is {type(given).__name__}, not a list")
    letters, choices = [], []
    for option in map(str, given):
        label = _LETTERED.match(option)
        if label is None:
            raise RowError(f"option {option!r} does not start with its letter, as in 'A)21'")
        letters.append(label.group(1))
        choices.append(option[label.end() :])
    correct = optional(fields, "correct")
    if correct is not None and correct not in letters:
        raise RowError(f"'correct' is {correct!r}, none of its options {letters}")
    return choice_item(
        text(fields, "question"),
        choices,
        None if correct is None else letters.index(correct),
        rationale=optional(fields, "rationale"),
    )

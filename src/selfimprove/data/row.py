"""What the dataset families share: reading fields of a record, and laying out a question's text."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from selfimprove.types import AnswerType

__all__ = [
    "Fields",
    "Item",
    "Reshape",
    "RowError",
    "UnusableRow",
    "as_it_is",
    "choice_item",
    "choice_text",
    "optional",
    "options",
    "text",
    "value",
]

Fields: TypeAlias = Mapping[str, Any]

Reshape: TypeAlias = Callable[[Fields], Fields]
"""Makes a row of a format from a record of a file that has other columns."""


def as_it_is(fields: Fields) -> Fields:
    """Return a record as it is."""
    return fields


_OPTION = re.compile(r"^\(([A-Z])\) (.*)$", re.MULTILINE)
_CHOICES_HEADING = "Answer choices:"


class RowError(ValueError):
    """A record cannot be read as its format; the reader adds file and line."""


class UnusableRow(RowError):
    """A row that is well-formed and yet of no use: it is left out, and counted."""


@dataclass(frozen=True, slots=True)
class Item:
    """One record as its family understands it, before it gets a dataset and an id."""

    text: str
    answer_type: AnswerType
    gold: tuple[str, ...]
    """Empty where the file has no answer, as public test files often do not."""
    choices: tuple[str, ...] = ()
    rationale: str | None = None
    native_id: str | None = None


def value(fields: Fields, *names: str) -> Any:  # noqa: ANN401  whatever the file holds
    """Return the first of the named fields that is there; a dot goes into an inner object.

    >>> value({"question": {"stem": "Why?"}}, "question_stem", "question.stem")
    'Why?'

    Raises:
        RowError: none of them is there.
    """
    for name in names:
        node: Any = fields
        for part in name.split("."):
            node = node.get(part) if isinstance(node, Mapping) else None
        if node is not None:
            return node
    found = ", ".join(map(str, fields)) or "nothing"
    raise RowError(f"has no {' or '.join(map(repr, names))}; found {found}")


def text(fields: Fields, *names: str) -> str:
    """Return the first of the named fields as text, which must not be empty.

    Raises:
        RowError: none is there, or the first one that is there is empty or not text.
    """
    found = value(fields, *names)
    if isinstance(found, bool) or not isinstance(found, str | int | float):
        raise RowError(f"{' or '.join(map(repr, names))} is {type(found).__name__}, not text")
    if isinstance(found, float) and not math.isfinite(found):
        raise RowError(f"{' or '.join(map(repr, names))} is {found}, not text")
    stripped = str(found).strip()
    if not stripped:
        raise RowError(f"{' or '.join(map(repr, names))} is empty")
    return stripped


def optional(fields: Fields, *names: str) -> str | None:
    """Return the first of the named fields as text, or None where none is there or it is empty.

    NaN, as some tables write what is missing, is not there.
    """
    for name in names:
        found = fields.get(name)
        is_nan = isinstance(found, float) and math.isnan(found)
        if found is not None and not is_nan and str(found).strip():
            return str(found).strip()
    return None


def choice_text(question: str, choices: Mapping[str, str]) -> str:
    """Lay out a question with its choices, one a line.

    >>> print(choice_text("Which is hot?", {"A": "ice", "B": "fire"}))
    Which is hot?
    Answer choices:
    (A) ice
    (B) fire
    """
    lines = [f"({letter}) {' '.join(option.split())}" for letter, option in choices.items()]
    return "\n".join([question.strip(), _CHOICES_HEADING, *lines])


def options(question_text: str) -> dict[str, str]:
    r"""Read the choices back from a question's text: letter to option; {} where it has none.

    >>> options("Which is hot?\nAnswer choices:\n(A) ice\n(B) fire")
    {'A': 'ice', 'B': 'fire'}
    """
    return {letter: option.strip() for letter, option in _OPTION.findall(question_text)}


def choice_item(
    question: str,
    choices: Sequence[str],
    gold: int | None,
    *,
    native_id: str | None = None,
    rationale: str | None = None,
) -> Item:
    """Return a question whose choices are lettered from A; `gold` is the place of the right one.

    Raises:
        RowError: fewer than two choices, an empty one, or a gold that is none of them.
    """
    if not 2 <= len(choices) <= 26 or not all(choice.strip() for choice in choices):
        raise RowError(f"needs 2 to 26 choices with text, found {list(choices)}")
    if gold is not None and not 0 <= gold < len(choices):
        raise RowError(f"its answer is none of its {len(choices)} choices")
    letters = tuple(chr(ord("A") + n) for n in range(len(choices)))
    lettered = dict(zip(letters, choices, strict=True))
    return Item(
        text=choice_text(question, lettered),
        answer_type="choice",
        gold=() if gold is None else (letters[gold],),
        choices=letters,
        rationale=rationale,
        native_id=native_id,
    )

"""ARC, OpenBookQA and CommonsenseQA: multiple choice with lettered options (AI2, Tel Aviv).

All three are published alike: a question, options with a label and a text each, and the label of
the right one. ARC also labels some options 1 to 4; here every question is lettered from A.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from selfimprove.data.row import Fields, Item, RowError, choice_item, optional, text, value

__all__ = ["parse"]

_ADAPTERS_QUESTION = re.compile(
    r"(?:Please choose the correct answer to the question:)?\s*(?P<question>.*?)\s*\n\n"
    r"(?P<options>Answer1:.*?)\s*(?:\n\nAnswer format:.*)?\Z",
    re.DOTALL,
)
_ADAPTERS_OPTION = re.compile(r"\s*\bAnswer(\d):\s*")
_TSV_OPTION = re.compile(r"\s*\(([A-Z])\)\s+")


@dataclass(frozen=True, slots=True)
class _Options:
    labels: list[str]
    texts: list[str]


def parse(fields: Fields) -> Item:
    """Read AI2's own layouts, hub rows, AI2's .tsv, or the instructions of LLM-Adapters."""
    if "instruction" in fields:
        question, options = _of_adapters(text(fields, "instruction"))
    elif "Question Stem" in fields:
        question = text(fields, "Question Stem")
        options = _numbered(_TSV_OPTION, text(fields, "Choices"))
    else:
        question = text(fields, "question_stem", "question.stem", "question")
        options = _of_objects(value(fields, "choices", "question.choices"))
    gold = optional(fields, "answerKey", "Answer Key", "answer")
    return choice_item(
        question,
        options.texts,
        None if gold is None else _place(gold.removeprefix("answer"), options.labels),
        native_id=optional(fields, "id", "ID"),
    )


def _place(gold: str, labels: list[str]) -> int:
    if gold not in labels:
        raise RowError(f"its answer {gold!r} is none of its options {labels}")
    return labels.index(gold)


def _of_adapters(instruction: str) -> tuple[str, _Options]:
    found = _ADAPTERS_QUESTION.match(instruction)
    if found is None:
        raise RowError("its instruction has no 'Answer1: ... Answer2: ...' after the question")
    return found["question"], _numbered(_ADAPTERS_OPTION, found["options"])


def _numbered(label: re.Pattern[str], written: str) -> _Options:
    """Cut 'Answer1: dry palms Answer2: wet palms' at its labels."""
    _, *parts = label.split(written)
    return _Options(parts[::2], [part.strip() for part in parts[1::2]])


def _of_objects(choices: Any) -> _Options:  # noqa: ANN401  whatever the file holds
    """Read [{label, text}, ...], as AI2 publishes it, or {label: [...], text: [...]} of the hub."""
    if isinstance(choices, Mapping):
        labels, texts = value(choices, "label"), value(choices, "text")
    elif isinstance(choices, list | tuple) and all(isinstance(c, Mapping) for c in choices):
        labels = [value(choice, "label") for choice in choices]
        texts = [value(choice, "text") for choice in choices]
    else:
        raise RowError("'choices' is neither a list of {label, text} nor {label: ..., text: ...}")
    if not isinstance(labels, list | tuple) or not isinstance(texts, list | tuple):
        raise RowError("'label' and 'text' of 'choices' are not lists")
    if len(labels) != len(texts):
        raise RowError(f"has {len(labels)} labels for {len(texts)} choices")
    return _Options([str(label) for label in labels], [str(choice) for choice in texts])

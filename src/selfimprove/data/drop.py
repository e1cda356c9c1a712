"""DROP: questions on a passage, answered by a number, a date or spans of text (Dua et al. 2019)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from selfimprove.data.row import Fields, Item, RowError, optional, text, value

__all__ = ["flatten", "layout", "parse"]


def flatten(tree: Any) -> list[Any]:  # noqa: ANN401  whatever the file holds
    """Turn the original file, passages with their `qa_pairs`, into one record a question."""
    return [
        {"passage": value(section, "passage"), **pair}
        for section in tree.values()
        for pair in value(section, "qa_pairs")
    ]


def parse(fields: Fields) -> Item:
    """Read the original pairs, hub rows, or the `context` and `ref_text` of simple-evals."""
    if "context" in fields:
        passage, question = _split_context(text(fields, "context"))
    else:
        passage, question = text(fields, "passage"), text(fields, "question")
    return Item(
        layout(passage, question),
        "span",
        tuple(dict.fromkeys(_gold(fields))),
        native_id=optional(fields, "query_id"),
    )


def layout(passage: str, question: str) -> str:
    """Return what a model is shown."""
    return f"Passage: {passage}\nQuestion: {question}"


def _split_context(context: str) -> tuple[str, str]:
    passage, heading, question = context.rpartition("\nQuestion:")
    if not heading or not passage.startswith("Passage:"):
        raise RowError("its context is not 'Passage: ...', then 'Question: ...'")
    question = question.strip().removesuffix("Answer:").strip()
    return passage.removeprefix("Passage:").strip(), question


def _gold(fields: Fields) -> list[str]:
    """Return every accepted answer; the spans of one answer are joined by 'and'."""
    if "ref_text" in fields:
        parts = str(fields["ref_text"]).split("|")
        return [part.strip() for part in parts if part.strip()]
    if "answers_spans" in fields:
        return _of_hub(value(fields, "answers_spans"))
    if fields.get("answer") is None:
        return []
    validated = fields.get("validated_answers") or []
    found = [_of_answer(answer) for answer in (value(fields, "answer"), *validated)]
    if not found[0]:
        raise RowError("its answer has no number, no date and no spans")
    return [answer for answer in found if answer]


def _of_answer(answer: Fields) -> str:
    """An original answer fills one of number, spans and date."""
    number = str(answer.get("number") or "").strip()
    if number:
        return number
    spans = [str(span).strip() for span in answer.get("spans") or []]
    if spans:
        return " and ".join(spans)
    date = answer.get("date") or {}
    return " ".join(str(date[part]) for part in ("day", "month", "year") if date.get(part))


def _of_hub(answers: Fields) -> list[str]:
    """The hub runs the answers of all annotators into one list, so several spans are ambiguous.

    Spans that occur equally often are taken as the parts of one answer; otherwise those that
    occur most often are the alternatives. Numbers and dates are always alternatives.
    """
    if not isinstance(answers, Mapping):
        raise RowError("'answers_spans' is not an object of spans and types")
    told, types = value(answers, "spans"), value(answers, "types")
    if not isinstance(told, list) or not isinstance(types, list):
        raise RowError("'spans' and 'types' of 'answers_spans' are not lists")
    spans = [str(span).strip() for span in told]
    if not spans:
        return []
    counts = Counter(spans)
    most = max(counts.values())
    if {str(kind) for kind in types} == {"span"} and set(counts.values()) == {most}:
        return [" and ".join(counts)]
    return [span for span, count in counts.items() if count == most]

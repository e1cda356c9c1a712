"""StrategyQA: yes-or-no questions that need several unstated facts (Geva et al. 2021)."""

from __future__ import annotations

from selfimprove.data.row import Fields, Item, RowError, text

__all__ = ["COLUMNS", "layout", "parse", "yes_or_no"]

COLUMNS = ("question", "answer", "facts")
"""Columns of the .tsv published with FLAN, which has no header."""

_GOLD = {"yes": "yes", "true": "yes", "no": "no", "false": "no"}


def parse(fields: Fields) -> Item:
    """Read `question`, `answer` (true/false or yes/no) and `facts` (a text or a list)."""
    facts = fields.get("facts")
    joined = " ".join(map(str, facts)) if isinstance(facts, list | tuple) else str(facts or "")
    native_id = fields.get("qid")
    return Item(
        layout(text(fields, "question", "input")),
        "yes_no",
        yes_or_no(fields.get("answer")),
        rationale=joined.strip() or None,
        native_id=None if native_id is None else str(native_id),
    )


def layout(question: str) -> str:
    """Return what a model is shown."""
    return f"{question}\nAnswer yes or no."


def yes_or_no(answer: object) -> tuple[str, ...]:
    """Return the gold of a yes-or-no question; () where the file has none.

    Raises:
        RowError: there is an answer that is neither yes nor no.
    """
    if answer is None or answer == "":
        return ()
    gold = _GOLD.get(str(answer).strip().lower())
    if gold is None:
        raise RowError(f"its answer {answer!r} is neither yes nor no")
    return (gold,)

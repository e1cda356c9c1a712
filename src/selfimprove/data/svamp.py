"""SVAMP: one-step word problems that punish shallow reading (Patel et al. 2021)."""

from __future__ import annotations

from selfimprove.data.gold_numbers import plain_number
from selfimprove.data.row import Fields, Item, optional, text

__all__ = ["parse"]


def parse(fields: Fields) -> Item:
    """Read `Body`, `Question` and `Answer`; hub rows may hold `question_concat` instead."""
    question = optional(fields, "question_concat")
    if question is None:
        body = text(fields, "Body")
        stop = "" if body.endswith((".", "?", "!", ",")) else "."
        question = f"{body}{stop} {text(fields, 'Question')}"
    gold = optional(fields, "Answer")
    return Item(
        question,
        "number",
        () if gold is None else (plain_number(gold),),
        native_id=optional(fields, "ID"),
    )

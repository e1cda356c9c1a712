"""MGSM: GSM8K in ten languages (Shi et al. 2022)."""

from __future__ import annotations

from selfimprove.data.gold_numbers import plain_number
from selfimprove.data.row import Fields, Item, optional, text

__all__ = ["COLUMNS", "parse"]

COLUMNS = ("question", "answer_number")
"""Of its .tsv files, which have no header line."""


def parse(fields: Fields) -> Item:
    """Read `question` and `answer_number`."""
    gold = optional(fields, "answer_number")
    return Item(
        text(fields, "question").removeprefix("Question: "),
        "number",
        () if gold is None else (plain_number(gold),),
        rationale=optional(fields, "answer"),
    )

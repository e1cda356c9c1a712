"""Coin flip and last letters: the two symbolic tasks, as published by Kojima et al. (2022)."""

from __future__ import annotations

from selfimprove.data.row import Fields, Item, text
from selfimprove.data.strategyqa import yes_or_no

__all__ = ["coin_flip", "last_letters"]


def coin_flip(fields: Fields) -> Item:
    """Read `question` and `answer`, yes or no."""
    return Item(text(fields, "question"), "yes_no", yes_or_no(fields.get("answer")))


def last_letters(fields: Fields) -> Item:
    """Read `question` and `answer`, the letters put together."""
    return Item(text(fields, "question"), "span", (text(fields, "answer"),))

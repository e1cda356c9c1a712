"""BIG-Bench Hard: tasks of several kinds in one layout, `input` and `target` (Suzgun et al. 2022)."""

from __future__ import annotations

import re

from selfimprove.data.row import Fields, Item, RowError, choice_item, text

__all__ = ["parse"]

_OPTION = re.compile(r"^\(([A-Z])\)\s*(.+)$", re.MULTILINE)
_NUMBER = re.compile(r"-?\d+(?:\.\d+)?")
_TRUTHS = ("true", "false", "yes", "no")


def parse(fields: Fields) -> Item:
    """Read `input` and `target`; the kind of answer follows from the two."""
    question, target = text(fields, "input"), text(fields, "target")
    heading = question.find("\nOptions:")
    if heading >= 0 and _OPTION.search(question, heading):
        return _choice(question, heading, target)
    if target.lower() in _TRUTHS:
        return Item(question, "yes_no", (target,))
    return Item(question, "number" if _NUMBER.fullmatch(target) else "span", (target,))


def _choice(question: str, heading: int, target: str) -> Item:
    options = dict(_OPTION.findall(question[heading:]))
    letter = target.strip("()")
    if letter not in options:
        raise RowError(f"its target {target!r} is none of its options {list(options)}")
    place = list(options).index(letter)
    return choice_item(question[:heading], list(options.values()), place)

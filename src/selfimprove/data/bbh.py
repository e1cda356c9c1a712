"""BIG-Bench Hard: tasks of several kinds in one layout, `input` and `target` (Suzgun et al. 2022).

Its repository also publishes what models answered: the few-shot prompt as `input`, and a chain of
thought as `prediction`, which becomes the worked answer.
"""

from __future__ import annotations

import re
from dataclasses import replace

from selfimprove.data.row import Fields, Item, RowError, choice_item, text

__all__ = ["parse"]

_OPTION = re.compile(r"^\(([A-Z])\)\s*(.+)$", re.MULTILINE)
_NUMBER = re.compile(r"-?\d+(?:\.\d+)?")
_LETTER = re.compile(r"\([A-Za-z]\)|[A-Z]")
_TRUTHS = ("true", "false", "yes", "no")
_SHOWN = re.compile(r"(?s:.*\n\n|)Q: (.+?)\nA: Let's think step by step\.\s*", re.DOTALL)
"""A few-shot prompt; the last question of it is the one that is asked."""


def parse(fields: Fields) -> Item:
    """Read `input` and `target`; the kind of answer follows from the two.

    A few targets name an option by its text (`Monsters, Inc`), or are none of the options: the
    first are read as its letter, the others as free text.
    """
    question, target = text(fields, "input"), text(fields, "target")
    if "prediction" in fields and (shown := _SHOWN.fullmatch(question)):
        return replace(_item(shown[1], target), rationale=text(fields, "prediction"))
    return _item(question, target)


def _item(question: str, target: str) -> Item:
    heading = question.find("\nOptions:")
    if heading >= 0 and _OPTION.search(question, heading):
        return _choice(question, heading, target)
    if target.lower() in _TRUTHS:
        return Item(question, "yes_no", (target,))
    return Item(question, "number" if _NUMBER.fullmatch(target) else "span", (target,))


def _choice(question: str, heading: int, target: str) -> Item:
    options = dict(_OPTION.findall(question[heading:]))
    texts = [" ".join(option.split()).casefold() for option in options.values()]
    words = " ".join(target.split()).casefold()
    if target.strip("()") in options:
        place = list(options).index(target.strip("()"))
    elif texts.count(words) == 1:
        place = texts.index(words)
    elif _LETTER.fullmatch(target):
        raise RowError(f"its target {target!r} is none of its options {list(options)}")
    else:
        return Item(question, "span", (target,))
    return choice_item(question[:heading], list(options.values()), place)

"""Competition mathematics: MATH (Hendrycks et al. 2021), with worked solutions, and AIME, with whole numbers."""

from __future__ import annotations

import re

from selfimprove.data.gold_numbers import plain_number
from selfimprove.data.row import Fields, Item, RowError, optional, text

__all__ = ["aime", "math"]

_WORDS = re.compile(r"\\text(?:bf|rm)?\{(?P<words>[^{}]*)\}")
"""An answer that is words, such as \\text{Monday}."""
_BOXES = (r"\boxed{", r"\fbox{")


def math(fields: Fields) -> Item:
    r"""Read `problem` and `solution`, whose answer stands in its last \boxed{...}; some files repeat it as `answer`.

    Raises:
        RowError: a field is missing, or the solution boxes nothing.
    """
    solution = optional(fields, "solution")
    gold = optional(fields, "answer") or (None if solution is None else _boxed(solution))
    in_words = None if gold is None else _WORDS.fullmatch(gold)
    accepted = in_words["words"] if in_words else gold
    return Item(
        text(fields, "problem"),
        "span" if in_words else "number",
        () if accepted is None else (accepted,),
        rationale=solution,
        native_id=optional(fields, "unique_id", "id"),
    )


def aime(fields: Fields) -> Item:
    """Read `problem` and `answer`, a whole number; field names begin with a capital in some files."""
    gold = optional(fields, "answer", "Answer")
    return Item(
        text(fields, "problem", "Problem", "question", "Question"),
        "number",
        () if gold is None else (plain_number(gold),),
        rationale=optional(fields, "solution", "Solution"),
        native_id=optional(fields, "id", "ID"),
    )


def _boxed(solution: str) -> str:
    """Return what stands in the last box, braces within it included."""
    start, mark = max((solution.rfind(mark), mark) for mark in _BOXES)
    if start < 0:
        raise RowError(r"its solution has no \boxed{...}, in which MATH gives the answer")
    depth, begin = 1, start + len(mark)
    for place in range(begin, len(solution)):
        depth += {"{": 1, "}": -1}.get(solution[place], 0)
        if not depth:
            return solution[begin:place].strip()
    raise RowError(r"its solution opens a \boxed{ that is never closed")

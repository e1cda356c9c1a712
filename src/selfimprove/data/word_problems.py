"""MultiArith, AddSub and SingleEq: word problems in the layout of MAWPS (Roy & Roth 2015)."""

from __future__ import annotations

from selfimprove.data.gold_numbers import plain_number
from selfimprove.data.row import Fields, Item, RowError, optional, text

__all__ = ["parse"]


def parse(fields: Fields) -> Item:
    """Read `sQuestion` and `lSolutions`; hub rows hold `question` and `final_ans`."""
    solutions = fields.get("lSolutions")
    if solutions is None:
        written = optional(fields, "final_ans", "answer")
    elif isinstance(solutions, list) and len(solutions) == 1:
        written = str(solutions[0])
    else:
        raise RowError(f"'lSolutions' is {solutions!r}, not a list of one number")
    return Item(
        text(fields, "sQuestion", "question"),
        "number",
        () if written is None else (plain_number(written),),
        native_id=optional(fields, "iIndex"),
    )

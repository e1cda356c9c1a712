"""Gold numbers as the files write them: 39.0 is meant as 39."""

from __future__ import annotations

import math

from selfimprove.data.row import RowError

__all__ = ["plain_number"]


def plain_number(written: object) -> str:
    """Return a number of a data file as a person would write it.

    >>> plain_number(39.0), plain_number("1,080"), plain_number("0.50")
    ('39', '1080', '0.5')

    Raises:
        RowError: it is not one finite number.
    """
    try:
        number = float(str(written).replace(",", "").strip())
    except ValueError:
        raise RowError(f"its answer {written!r} is not a number") from None
    if not math.isfinite(number):
        raise RowError(f"its answer {written!r} is not a finite number")
    # repr is the shortest text that reads back as the same float.
    return str(int(number)) if number.is_integer() else repr(number)

"""Files of preference data, in whichever of their formats."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from selfimprove.data import hh_rlhf, summarize_feedback
from selfimprove.data.preference_rows import Told, parse
from selfimprove.data.read_rows import read_rows
from selfimprove.data.replies import without_reasoning
from selfimprove.data.row import Reshape, RowError, UnusableRow, as_it_is
from selfimprove.errors import DataError

__all__ = ["FORMATS", "parser", "rows"]


_PARSERS: Final[dict[str, Callable[[Mapping[str, Any]], Told]]] = {
    "hh_rlhf": hh_rlhf.parse,
    "summarize_feedback": summarize_feedback.parse,
    "preferences": parse,
}

FORMATS: Final = tuple(_PARSERS)
"""Formats of preference files, beside `tiny`. `preferences` is TRL's prompt/chosen/rejected."""


def rows(
    source: str, name: str, reshape: Reshape = as_it_is
) -> Iterator[tuple[str, Told | RowError]]:
    """Yield the place of each row of a file or hub dataset, and the row or what is wrong with it.

    Raises:
        DataError: the format is unknown, or the file as a whole cannot be read.
    """
    read = parser(name)
    yield from read_rows(source, name, lambda fields: _compared(read(fields)), reshape)


def parser(name: str) -> Callable[[Mapping[str, Any]], Told]:
    """Return what reads a row of a format.

    Raises:
        DataError: the format is unknown.
    """
    if name not in _PARSERS:
        known = ", ".join((*FORMATS, "tiny"))
        raise DataError(f"no format of preferences is called {name!r}; there are {known}")
    return _PARSERS[name]


def _compared(told: Told) -> Told:
    """Leave reasoning out, and refuse what nothing can be learnt from."""
    prompt, *given = told
    chosen, rejected = map(without_reasoning, given)
    for name, before, said in zip(("chosen", "rejected"), given, (chosen, rejected), strict=True):
        if before and not said:
            raise UnusableRow(f"has a {name} reply that is nothing but reasoning")
    if not chosen or not rejected:
        raise UnusableRow(f"has an empty {'rejected' if chosen else 'chosen'} reply")
    if chosen == rejected:
        raise UnusableRow("has twice the same reply")
    if prompt[-1].role != "user" or not prompt[-1].content:
        raise UnusableRow("has a prompt that does not end in the user's words")
    return prompt, chosen, rejected

"""LLMBar (Zeng et al., ICLR 2024): two outputs for one input, and which of them people found better."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from selfimprove.data.formats import rows_of
from selfimprove.data.row import RowError, text, value
from selfimprove.data.tables import records
from selfimprove.errors import DataError
from selfimprove.types import Match

__all__ = ["DecidedMatch", "read_decided_matches"]


@dataclass(frozen=True, slots=True)
class DecidedMatch:
    """A match that people decided."""

    match: Match
    first_is_better: bool


def read_decided_matches(path: Path, limit: int | None = None) -> list[DecidedMatch]:
    """Read input, output_1, output_2 and label (1 or 2: the better output), in file order.

    Raises:
        DataError: the file cannot be read, a row is broken, or there are no rows.
    """
    found: list[DecidedMatch] = []
    place = "the whole file"
    try:
        for number, record in enumerate(islice(records(path, rows_of), limit)):
            place = record.place
            if record.fields is None:
                raise RowError(record.problem)
            found.append(_decided(f"{path.stem}-{number}", record.fields))
    except RowError as error:
        raise DataError(f"{path}, {place}: {error}") from error
    if not found:
        raise DataError(f"{path} holds no rows")
    return found


def _decided(name: str, fields: Mapping[str, Any]) -> DecidedMatch:
    label = value(fields, "label")
    if str(label) not in ("1", "2"):
        raise RowError(f"its label is {label!r}, neither 1 nor 2")
    outputs = text(fields, "output_1"), text(fields, "output_2")
    return DecidedMatch(Match(name, name, text(fields, "input"), *outputs), str(label) == "1")

"""Rows of a file or hub dataset, each as a format reads it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from selfimprove.data.formats import rows_of
from selfimprove.data.hub import hub_records, is_hub_id
from selfimprove.data.row import Reshape, RowError, as_it_is
from selfimprove.data.tables import records
from selfimprove.errors import DataError

__all__ = ["read_rows"]

T = TypeVar("T")


def read_rows(
    source: str, name: str, parse: Callable[[Mapping[str, Any]], T], reshape: Reshape = as_it_is
) -> Iterator[tuple[str, T | RowError]]:
    """Yield the place of each row, and the row or what is wrong with it.

    Args:
        source: a path, or the id of a dataset on the hub.
        name: of the format, for messages.
        parse: reads the fields of one row.
        reshape: makes these from a record of the file.

    Raises:
        DataError: the file as a whole cannot be read.
    """
    path = Path(source)
    try:
        on_hub = not path.exists() and is_hub_id(source)
        found = hub_records(source, None) if on_hub else records(path, rows_of)
    except RowError as error:
        raise DataError(f"{source} does not look like {name}: it {error}") from error
    for record in found:
        if record.fields is None:
            yield record.place, RowError(record.problem)
            continue
        try:
            yield record.place, parse(reshape(record.fields))
        except RowError as error:
            yield record.place, error

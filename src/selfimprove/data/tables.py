"""Files to records: .json, .jsonl, .csv, .tsv and .parquet, each also .gz, each record with its place."""

from __future__ import annotations

import csv
import gzip
import io
import json
import re
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from selfimprove.errors import DataError

__all__ = ["SUFFIXES", "Record", "is_text", "records", "suffix_of"]

SUFFIXES = (".json", ".jsonl", ".csv", ".tsv", ".parquet")

_JSON_PROBLEMS = (ValueError, RecursionError)
_HALF_OF_A_PAIR = re.compile(r"\\u[dD][89a-fA-F]")
"""The escape of a surrogate, which is a character only together with another one."""


@dataclass(frozen=True, slots=True)
class Record:
    """One record as it stands in a file, or what is wrong with it."""

    place: str
    """Where a person finds it: 'line 12' or 'row 12', counted from 1."""
    fields: dict[str, Any] | None
    problem: str = ""
    """Why `fields` is None."""


def suffix_of(path: Path) -> str:
    """Return the suffix that names the layout, `.gz` aside.

    >>> suffix_of(Path("drop_dev.jsonl.gz"))
    '.jsonl'
    """
    suffixes = [s.lower() for s in path.suffixes]
    if suffixes and suffixes[-1] == ".gz":
        suffixes.pop()
    return suffixes[-1] if suffixes else ""


def records(
    path: Path,
    flatten: Callable[[Any], Sequence[Any]],
    columns: Sequence[str] = (),
) -> Iterator[Record]:
    """Yield the records of a file in order; a broken one is yielded with its problem.

    Args:
        path: the file.
        flatten: turns a whole JSON document into its list of records.
        columns: the names of the columns of a .tsv or .csv that has no header line.

    Raises:
        DataError: the file as a whole cannot be read: missing, empty, not gzip, not UTF-8. That it
            has no rows is told when the first one is asked for.
    """
    found = _found(path, flatten, columns)
    return _some(path, found)


def _some(path: Path, found: Iterator[Record]) -> Iterator[Record]:
    first = next(found, None)
    if first is None:
        raise DataError(f"{path} is empty: it holds no rows")
    yield first
    yield from found


def _found(
    path: Path, flatten: Callable[[Any], Sequence[Any]], columns: Sequence[str]
) -> Iterator[Record]:
    suffix = suffix_of(path)
    if suffix not in SUFFIXES:
        raise DataError(f"{path}: cannot tell its layout; rename it to end in {_listed()} (or .gz)")
    content = _content(path)
    if suffix == ".parquet":
        return _parquet(path, content)
    text = _decoded(path, content)
    if not text.strip():
        raise DataError(f"{path} is empty")
    if suffix == ".json":
        return _json(path, text, flatten)
    if suffix == ".jsonl":
        return _json_lines(text)
    return _separated(text, "\t" if suffix == ".tsv" else ",", columns)


def _listed() -> str:
    return ", ".join(SUFFIXES)


def _content(path: Path) -> bytes:
    try:
        raw = path.read_bytes()
        return gzip.decompress(raw) if path.suffix.lower() == ".gz" else raw
    except FileNotFoundError:
        raise DataError(f"no file at {path}") from None
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{path} is not a whole gzip file ({error}): fetch it again") from error
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from error


def _decoded(path: Path, content: bytes) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise DataError(
            f"{path}, line {line}: byte {content[error.start]:#04x} is not UTF-8; "
            "convert the file, e.g. with iconv"
        ) from error


def _json(path: Path, text: str, flatten: Callable[[Any], Sequence[Any]]) -> Iterator[Record]:
    """A .json file is one document, or, as AQuA publishes it, one object a line."""
    try:
        tree = json.loads(text)
    except _JSON_PROBLEMS as error:
        if isinstance(error, json.JSONDecodeError) and error.msg == "Extra data":
            return _json_lines(text)
        raise DataError(f"{path} is not JSON: {_json_problem(error)}") from error
    rows = enumerate(flatten(tree), 1)
    escapes = _HALF_OF_A_PAIR.search(text) is not None
    return (_record(f"row {n}", item, escapes=escapes) for n, item in rows)


def _json_lines(text: str) -> Iterator[Record]:
    # Only \n ends a line: str.splitlines would also cut at U+2028 within a string.
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        place = f"line {number}"
        try:
            yield _record(place, json.loads(line), escapes=bool(_HALF_OF_A_PAIR.search(line)))
        except _JSON_PROBLEMS as error:
            yield Record(place, None, f"not JSON: {_json_problem(error)}")


def _json_problem(error: Exception) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f"{error.msg} at line {error.lineno}, column {error.colno}"
    if isinstance(error, RecursionError):
        return "nested too deeply"
    return "an integer has too many digits to be read"


def _record(place: str, item: object, *, escapes: bool = False) -> Record:
    if not isinstance(item, dict):
        return Record(place, None, f"is {type(item).__name__}, not an object with named fields")
    if escapes and not is_text(item):
        return Record(
            place, None, "holds half of a surrogate pair (\\ud800 to \\udfff), no character"
        )
    return Record(place, item)


def is_text(item: object) -> bool:
    """Tell whether every text in a parsed JSON value can be written as UTF-8: no half of a surrogate pair."""
    try:
        json.dumps(item, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True


def _separated(text: str, delimiter: str, columns: Sequence[str]) -> Iterator[Record]:
    # A .tsv has no quoting: a lone quotation mark in it is part of the text.
    lines = io.StringIO(text, newline="")
    if delimiter == "\t":
        reader = csv.reader(lines, delimiter=delimiter, quoting=csv.QUOTE_NONE)
    else:
        reader = csv.reader(lines, delimiter=delimiter)
    names = list(columns)
    while True:
        place = f"line {reader.line_num + 1}"
        try:
            cells = next(reader, None)
        except csv.Error as error:
            yield Record(place, None, f"not a row of cells: {error}")
            continue
        if cells is None:
            return
        if not names:
            names = [cell.strip() for cell in cells]
        elif cells:
            yield _row(place, names, cells)


def _row(place: str, names: Sequence[str], cells: Sequence[str]) -> Record:
    if len(cells) != len(names):
        wanted = f"{len(names)} cells ({', '.join(names)})"
        return Record(place, None, f"has {len(cells)} cells where {wanted} are expected")
    return Record(place, dict(zip(names, cells, strict=True)))


def _parquet(path: Path, content: bytes) -> Iterator[Record]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(pa.BufferReader(content))
    except (pa.ArrowException, OSError) as error:  # OSError: what its header says is broken
        raise DataError(f"{path} is not a whole Parquet file: {error}") from error
    if table.num_rows == 0:
        raise DataError(f"{path} is empty")
    return (_record(f"row {n}", item) for n, item in enumerate(table.to_pylist(), 1))

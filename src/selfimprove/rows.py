"""Frozen dataclasses to Parquet and back; the Arrow schema follows from the annotations."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from functools import cache
from pathlib import Path
from types import NoneType, UnionType
from typing import (
    TYPE_CHECKING,
    Any,
    Generic,
    Literal,
    TypeVar,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = [
    "Batch",
    "Drop",
    "Filtered",
    "Funnel",
    "Rows",
    "arrow_table",
    "decode",
    "encode",
    "rows_digest",
]

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Rows(Generic[T]):
    """The rows of a finished step."""

    items: tuple[T, ...]
    digest: str
    folder: Path

    def __iter__(self) -> Iterator[T]:
        """Iterate over the rows in the order they were written."""
        return iter(self.items)

    def __len__(self) -> int:
        """Return how many rows there are."""
        return len(self.items)


@dataclass(frozen=True, slots=True)
class Batch(Generic[T]):
    """What one shard of a sampling step holds, and what it cost."""

    rows: Sequence[T]
    tokens_sampled: int = 0
    prompt_tokens: int = 0
    engine: Mapping[str, str] = field(default_factory=dict)
    """What made the rows: an engine's identity; empty where no model was asked."""


@dataclass(frozen=True, slots=True)
class Drop:
    """How many rows a filter dropped for one reason."""

    why: str
    count: int


@dataclass(frozen=True, slots=True)
class Funnel:
    """What went into a filter, what came out, and why the rest fell."""

    name: str
    given: int
    kept: int
    dropped: tuple[Drop, ...] = ()


@dataclass(frozen=True, slots=True)
class Filtered(Generic[T]):
    """Rows that passed one or more filters, with the funnel of each."""

    rows: Sequence[T]
    funnels: tuple[Funnel, ...]


def arrow_table(rows: Sequence[T], row_type: type[T]) -> pa.Table:
    """Return the rows as an Arrow table."""
    import pyarrow as pa

    return pa.Table.from_pylist([asdict(row) for row in rows], schema=_schema(row_type))  # type: ignore[call-overload]


def encode(rows: Sequence[T], row_type: type[T]) -> bytes:
    """Return the rows as one Parquet file (zstd), which `datasets` reads as it stands."""
    import pyarrow.parquet as pq

    buffer = io.BytesIO()
    pq.write_table(arrow_table(rows, row_type), buffer, compression="zstd")
    return buffer.getvalue()


def decode(path: Path, row_type: type[T]) -> list[T]:
    """Read back the rows of one Parquet file, as the dataclass they were written from."""
    import pyarrow.parquet as pq

    return [_build(row_type, row) for row in pq.read_table(path).to_pylist()]


def rows_digest(rows: Sequence[object]) -> str:
    """Return a digest of the rows' content, whatever the file format's version."""
    digest = hashlib.sha256()
    for row in rows:
        text = json.dumps(asdict(row), ensure_ascii=False, sort_keys=True)  # type: ignore[call-overload]
        digest.update(text.encode())
        digest.update(b"\n")
    return digest.hexdigest()


def _schema(row_type: type[Any]) -> pa.Schema:
    import pyarrow as pa

    hints = get_type_hints(row_type)
    return pa.schema([(f.name, _arrow_type(hints[f.name])) for f in fields(row_type)])


def _arrow_type(annotation: Any) -> pa.DataType:  # noqa: ANN401  any type annotation
    import pyarrow as pa

    plain = {str: pa.string(), int: pa.int64(), float: pa.float64(), bool: pa.bool_()}
    inner = _without_none(annotation)
    if inner in plain:
        return plain[inner]
    if get_origin(inner) is Literal:
        return pa.string()
    if get_origin(inner) is tuple:
        return pa.list_(_arrow_type(get_args(inner)[0]))
    if is_dataclass(inner):
        hints = get_type_hints(inner)
        return pa.struct([(f.name, _arrow_type(hints[f.name])) for f in fields(inner)])
    raise TypeError(f"no Parquet type for {annotation!r}")


def _without_none(annotation: Any) -> Any:  # noqa: ANN401  any type annotation
    if get_origin(annotation) in (UnionType, Union):
        (inner,) = [a for a in get_args(annotation) if a is not NoneType]
        return inner
    return annotation


def _build(row_type: type[T], row: dict[str, Any]) -> T:
    nested = _nested(row_type)  # type: ignore[arg-type]  # mypy: a class is not Hashable
    made = {name: _value(nested[name], row[name]) for name in nested if name in row}
    return row_type(**{**row, **made})


@cache
def _nested(row_type: type[Any]) -> dict[str, Any]:
    """Return the fields that are not what Parquet gives back: tuples, and rows within rows.

    Found once a type: `get_type_hints` compiles every annotation anew.
    """
    hints = get_type_hints(row_type)
    held = {f.name: _without_none(hints[f.name]) for f in fields(row_type)}
    return {n: kind for n, kind in held.items() if get_origin(kind) is tuple or is_dataclass(kind)}


def _value(annotation: Any, value: Any) -> Any:  # noqa: ANN401  any type annotation
    inner = _without_none(annotation)
    if value is None:
        return None
    if get_origin(inner) is tuple:
        return tuple(_value(get_args(inner)[0], v) for v in value)
    return _build(inner, value) if is_dataclass(inner) and isinstance(inner, type) else value

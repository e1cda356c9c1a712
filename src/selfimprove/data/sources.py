"""Where a recipe's questions come from: `format:file[from:to]`, or a file and one format for all."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from typing import Annotated, Any, ClassVar, TypeVar

from pydantic import BeforeValidator, Field, model_validator

from selfimprove.config import Config
from selfimprove.data.read import read_questions
from selfimprove.data.row import Fields, RowError, UnusableRow, value
from selfimprove.errors import ConfigError, DataError
from selfimprove.own_code import OwnCode, called, load_named
from selfimprove.rows import Drop, Filtered, Funnel
from selfimprove.types import Question

__all__ = [
    "DataConfig",
    "Source",
    "Sources",
    "as_source",
    "distinct",
    "questions_of",
    "training_questions",
]

_ROWS = re.compile(r"(?P<source>.+)\[(?P<first>\d*):(?P<last>\d*)\]")

Row = TypeVar("Row")


class Source(Config):
    """One file, hub id or split of the tiny world."""

    source: str
    """A file (.json, .jsonl, .csv, .tsv, .parquet, each also .gz), a hub id, or a tiny split."""
    format: str = ""
    """How to read it, e.g. gsm8k; empty takes `data.format`."""
    skip: int = Field(default=0, ge=0)
    """Pass over the first so many rows that could be used."""
    limit: int | None = Field(default=None, ge=1)
    """Use the first so many rows behind those; None is all."""

    columns: dict[str, str] = Field(default={})
    """What the file calls the columns that the format knows, e.g. {prompt: question, chosen: better}; a
    dot goes into an inner object."""
    row: OwnCode | None = None
    """Code of your own that makes a row of the format from a record of the file, as a function of a dict:
    module:name or path/to/file.py:name."""

    later: ClassVar[frozenset[str]] = frozenset({"columns", "row"})

    def reshape(self, fields: Fields) -> Fields:
        """Return a record of the file as a row of the format.

        Raises:
            RowError: a column is not there, or `row` made no dict.
            OwnCodeError: `row` raised.
        """
        if self.row is not None:
            made = called(self.row, load_named(self.row), dict(fields))
            if not isinstance(made, Mapping):
                raise RowError(f"was made {made!r} by {self.row}, which is no dict")
            fields = made
        return {**fields, **{name: value(fields, column) for name, column in self.columns.items()}}

    def part(self, rows: Iterable[Row]) -> Iterator[Row]:
        """Yield the rows that are used, of all that the source holds.

        Raises:
            DataError: it ends before its part begins.
        """
        used = islice(rows, self.skip, self.end)
        if self.skip:
            try:
                yield next(used)
            except StopIteration:
                raise DataError(
                    f"{self.source} has no row behind its first {self.skip:,}"
                ) from None
        yield from used

    def usable(self, name: str, rows: Iterable[Row | UnusableRow]) -> Filtered[Row]:
        """Return the usable rows of its part; the funnel of that name counts the others in it.

        Raises:
            DataError: it ends before its part begins.
        """
        kept: list[Row] = []
        lost: Counter[str] = Counter()
        for row in rows:
            if not isinstance(row, UnusableRow):
                kept.append(row)
            elif len(kept) >= self.skip:
                lost[str(row)] += 1
            if len(kept) == self.end:
                break
        used = list(self.part(kept))
        drops = tuple(Drop(why, count) for why, count in lost.most_common())
        return Filtered(used, (Funnel(name, len(used) + lost.total(), len(used), drops),))

    def at_most(self, limit: int | None) -> Source:
        """Return the source with no more than so many rows."""
        return self.model_copy(update={"limit": _least(self.limit, limit)})

    @property
    def end(self) -> int | None:
        """How many rows need to be read; None is all."""
        return None if self.limit is None else self.skip + self.limit


def _least(*limits: int | None) -> int | None:
    return min((limit for limit in limits if limit is not None), default=None)


def _sources(value: object) -> object:
    """Accept one source for a list of them, and `format:file[from:to]` or a bare file for a mapping."""
    values = value if isinstance(value, list | tuple) else [value]
    return tuple(_source(v) for v in values)


def _source(value: object) -> object:
    if isinstance(value, Mapping) and isinstance(value.get("source"), str):
        told, part = _cut(value["source"])
        if part and value.keys() & {"skip", "limit"}:
            raise ValueError(
                f"{value['source']}: its rows are given twice, by a slice and by a key"
            )
        return {**value, "source": told, **part}
    if not isinstance(value, str):
        return value
    told, part = _cut(value)
    kind, colon, rest = told.partition(":")
    if colon and kind.replace("_", "").isalnum() and not rest.startswith("//"):
        return {"format": kind, "source": rest, **part}
    return {"source": told, **part}


def _cut(value: str) -> tuple[str, dict[str, int]]:
    """Split off which rows are meant, written as the `datasets` library slices splits.

    >>> _cut("bbh:navigate.json[50:150]")
    ('bbh:navigate.json', {'skip': 50, 'limit': 100})
    """
    found = _ROWS.fullmatch(value)
    if not found:
        return value, {}
    first, last = int(found["first"] or 0), found["last"]
    if last and int(last) <= first:
        raise ValueError(f"{value}: rows {first} to {last} are none; [50:150] are a hundred")
    return found["source"], {"skip": first} | ({"limit": int(last) - first} if last else {})


def as_source(words: str, format: str) -> Source:
    """Return the source that `format:file` or `format:file[from:to]` names, or a bare file in `format`.

    Raises:
        ConfigError: the rows that are asked for are none.
    """
    try:
        told = _source(words)
    except ValueError as error:
        raise ConfigError(str(error)) from error
    return Source.model_validate({"format": format, **(told if isinstance(told, dict) else {})})


Sources = Annotated[
    tuple[Source, ...],
    BeforeValidator(_sources, json_schema_input_type=str | Source | tuple[str | Source, ...]),
]
"""One source or several, each a mapping, `format:file`, or a file; `[50:150]` behind it takes those rows."""


class DataConfig(Config):
    """The question sets of a run."""

    format: str = ""
    """Format of every source that names none."""
    train: Sources
    """Questions to learn from; their answers are not read."""
    dev: Sources = ()
    """Held-out questions on which the gate decides; without them a tenth of `train`, 16 to 500
    questions and never more than a quarter, is held back for it. It never asks `test`."""
    test: Sources
    """Held-out questions that are reported."""
    ood: Sources = ()
    """Held-out questions of other kinds than the training questions."""
    train_limit: int | None = Field(default=None, ge=1)
    """At most so many of every training source."""
    test_limit: int | None = Field(default=None, ge=1)
    """At most so many of every dev, test and ood source."""

    @model_validator(mode="before")
    @classmethod
    def _fill(cls, tree: Any) -> Any:  # noqa: ANN401  raw YAML
        if not isinstance(tree, Mapping):
            return tree
        filled = dict(tree)
        for name in ("train", "dev", "test", "ood"):
            limit = tree.get("train_limit" if name == "train" else "test_limit")
            if tree.get(name) is not None:
                filled[name] = [
                    _with_defaults(s, str(tree.get("format") or ""), limit)
                    for s in _sources(tree[name])  # type: ignore[attr-defined]
                ]
        return filled


def _with_defaults(source: object, kind: str, most: object) -> object:
    if not isinstance(source, Mapping):
        return source
    limit = source.get("limit")
    if isinstance(most, int) and (limit is None or isinstance(limit, int)):
        limit = _least(limit, most)
    return {**source, "format": source.get("format") or kind, "limit": limit}


def distinct(ids: Iterable[str]) -> list[str]:
    """Return the ids with every repetition numbered: two files may count their rows alike.

    >>> distinct(["gsm8k-1", "gsm8k-2", "gsm8k-1"])
    ['gsm8k-1', 'gsm8k-2', 'gsm8k-1~2']
    """
    seen: Counter[str] = Counter()
    named = []
    for name in ids:
        seen[name] += 1
        named.append(name if seen[name] == 1 else f"{name}~{seen[name]}")
    return named


def questions_of(source: Source) -> Iterator[Question]:
    """Read the questions of one source, without their answers.

    Raises:
        DataError: a file cannot be read, or a row of it is broken.
    """
    return source.part(read_questions(source.source, source.format, limit=source.end,
                                     reshape=source.reshape))  # fmt: skip


def training_questions(sources: Sequence[Source]) -> list[Question]:
    """Read the questions of every source, without their answers; every id is unique.

    Raises:
        DataError: a file cannot be read, or a row of it is broken.
    """
    read = [q for s in sources for q in questions_of(s)]
    names = distinct(q.id for q in read)
    return [replace(q, id=name) for q, name in zip(read, names, strict=True)]

"""A data file, a hub dataset or a split of the tiny world, read as questions.

Nothing is dropped in silence: a broken row is an error that names it, and `check` lists them all.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

from selfimprove.data import dialogues, preference_files
from selfimprove.data.formats import FORMATS, Format, rows_of
from selfimprove.data.hub import hub_records, is_hub_id
from selfimprove.data.row import Reshape, RowError, UnusableRow, as_it_is
from selfimprove.data.tables import Record, records
from selfimprove.errors import DataError
from selfimprove.types import Labelled, Question

__all__ = ["KEEPS", "TINY", "BadRow", "Check", "check", "read_labelled", "read_questions"]

TINY = "tiny"
KEEPS = "keeps"
"""The second world: preferences alone."""
"""The format whose source is a split of the embedded world: train, dev, test or ood."""

_FIRST = 5  # rows by which a format is guessed
_TINY_COUNT = 2000
"""Questions of a tiny split where no limit is given; the world could make more."""


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row that cannot be read."""

    place: str
    """Where it stands, e.g. 'line 12'."""
    problem: str


@dataclass(frozen=True, slots=True)
class Check:
    """What a file holds."""

    source: str
    format: str
    rows: int
    good: int
    unlabelled: int
    """Good rows without an answer: they can be learnt from, not measured on."""
    answer_types: dict[str, int]
    """Good rows by answer type."""
    bad: tuple[BadRow, ...]
    left_out: tuple[BadRow, ...] = ()
    """Well-formed rows that nothing can be learnt from, such as a comparison of two equal replies."""
    looks_like: tuple[str, ...] = ()
    """Formats that read its first rows, where this one reads none."""


def read_labelled(
    source: str | Path,
    format: str,
    *,
    limit: int | None = None,
    need_gold: bool = True,
    reshape: Reshape = as_it_is,
) -> list[Labelled]:
    """Read questions with their answers, in the order of the file.

    Args:
        source: a file, a hub id such as 'openai/gsm8k:test', or a tiny split.
        format: a key of `FORMATS`, or 'tiny'.
        limit: take only the first so many; rows behind them are not looked at.
        need_gold: a row without an answer is an error; else its `gold` is empty.
        reshape: makes a row of the format from a record of the file.

    Raises:
        DataError: the source cannot be read, or a row is broken or has no answer that it needs.
    """
    rows = _good_rows(source, format, limit, need_gold=need_gold, reshape=reshape)
    return list(islice(rows, limit))


def read_questions(
    source: str | Path,
    format: str,
    *,
    limit: int | None = None,
    reshape: Reshape = as_it_is,
) -> list[Question]:
    """Read questions alone, as methods get them: like `read_labelled`, but no answer is needed.

    Raises:
        DataError: the source cannot be read, or a row is broken.
    """
    rows = _good_rows(source, format, limit, need_gold=False, reshape=reshape)
    return [row.question for row in islice(rows, limit)]


def check(source: str | Path, format: str) -> Check:
    """Read everything, count it, and list each broken row; where none is good, name formats that read some.

    Raises:
        DataError: the source as a whole cannot be read.
    """
    found = _checked(source, format)
    return found if found.good or not found.bad else replace(found, looks_like=_likely(source))


def _likely(source: str | Path) -> tuple[str, ...]:
    """Return the formats that read the first rows of a file."""
    first = [r.fields for r in islice(records(Path(source), rows_of), _FIRST) if r.fields]
    parsers: dict[str, Callable[[Mapping[str, Any]], object]] = {
        **{name: form.parse for name, form in FORMATS.items()},
        **{name: preference_files.parser(name) for name in preference_files.FORMATS},
        "prompts": dialogues.prompt_of,
    }
    return tuple(name for name, parse in parsers.items() if first and _reads_all(parse, first))


def _reads_all(
    parse: Callable[[Mapping[str, Any]], object], rows: Sequence[Mapping[str, Any]]
) -> bool:
    try:
        for fields in rows:
            parse(fields)
    except UnusableRow:
        return True
    except (RowError, DataError):
        return False
    return True


def _checked(source: str | Path, format: str) -> Check:
    if format in dialogues.FORMATS:
        return _check_dialogues(str(source), format)
    if format in preference_files.FORMATS:
        return _check_preferences(str(source), format)
    good: list[Labelled] = []
    bad: list[BadRow] = []
    for row in _rows(source, format, None):
        if isinstance(row, BadRow):
            bad.append(row)
        else:
            good.append(row)
    return Check(
        source=str(source),
        format=format,
        rows=len(good) + len(bad),
        good=len(good),
        unlabelled=sum(not row.gold for row in good),
        answer_types=dict(Counter(str(row.question.answer_type) for row in good)),
        bad=tuple(bad),
    )


def _check_dialogues(source: str, format: str) -> Check:
    """Check a file of open-ended prompts: every row must hold one; many hold a response, too."""
    bad: list[BadRow] = []
    good = unanswered = 0
    for place, row in dialogues.rows(source, format, dialogues.prompt_and_response):
        if isinstance(row, RowError):
            bad.append(BadRow(place, str(row)))
        else:
            good += 1
            unanswered += row[1] is None
    return Check(source, format, good + len(bad), good, unanswered, {"prompt": good}, tuple(bad))


def _check_preferences(source: str, format: str) -> Check:
    """Check a file of comparisons; those that nothing can be learnt from are listed apart."""
    bad: list[BadRow] = []
    left_out: list[BadRow] = []
    good = 0
    for place, row in preference_files.rows(source, format):
        if isinstance(row, UnusableRow):
            left_out.append(BadRow(place, str(row)))
        elif isinstance(row, RowError):
            bad.append(BadRow(place, str(row)))
        else:
            good += 1
    rows = good + len(bad) + len(left_out)
    return Check(source, format, rows, good, 0, {"comparison": good}, tuple(bad), tuple(left_out))


def _good_rows(
    source: str | Path, name: str, limit: int | None, *, need_gold: bool, reshape: Reshape
) -> Iterator[Labelled]:
    for row in _rows(source, name, limit, reshape):
        if isinstance(row, BadRow):
            hint = f"`selfimprove data check {source} --as {name}` lists every broken row"
            raise DataError(f"{source}, {row.place}: {row.problem}; {hint}")
        if need_gold and not row.gold:
            raise DataError(f"{source}: {row.question.id} has no answer, which is needed here")
        yield row


def _rows(
    source: str | Path, name: str, limit: int | None, reshape: Reshape = as_it_is
) -> Iterator[Labelled | BadRow]:
    if name == TINY:
        return iter(_tiny(str(source), limit))
    if name not in FORMATS:
        raise DataError(_no_questions(name))
    return _parsed(_records(source, name, FORMATS[name]), name, reshape)


def _no_questions(name: str) -> str:
    """Say why a format gives no questions."""
    known = ", ".join([*FORMATS, TINY])
    if not name:
        return f"no format is named: give FORMAT:FILE, such as gsm8k:test.jsonl; there are {known}"
    if name in (*dialogues.FORMATS, *preference_files.FORMATS):
        held = "conversations" if name in dialogues.FORMATS else "preferences"
        return f"{name} holds {held}, and questions are needed here; they come as {known}"
    return f"no format is called {name!r}; there are {known}"


def _records(source: str | Path, name: str, form: Format) -> Iterator[Record]:
    path = Path(source)
    if not path.exists() and is_hub_id(str(source)):
        return hub_records(str(source), form.hub)
    try:
        return records(path, form.flatten, form.columns)
    except RowError as error:
        raise DataError(f"{path} does not look like {name}: it {error}") from error


def _parsed(found: Iterator[Record], name: str, reshape: Reshape) -> Iterator[Labelled | BadRow]:
    places: dict[str, str] = {}
    for number, record in enumerate(found, 1):
        row = _one(record, name, number, reshape)
        if isinstance(row, Labelled):
            before = places.setdefault(row.question.id, record.place)
            if before != record.place:
                row = BadRow(record.place, f"has the id of {before}, {row.question.id}")
        yield row


def _one(record: Record, name: str, number: int, reshape: Reshape) -> Labelled | BadRow:
    if record.fields is None:
        return BadRow(record.place, record.problem)
    try:
        item = FORMATS[name].parse(reshape(record.fields))
    except RowError as error:
        return BadRow(record.place, str(error))
    question = Question(
        id=f"{name}-{item.native_id or number}",
        dataset=name,
        text=item.text,
        answer_type=item.answer_type,
        choices=item.choices,
    )
    return Labelled(question, item.gold, item.rationale)


def _tiny(split: str, limit: int | None) -> list[Labelled]:
    from selfimprove.tiny.problems import Split, labelled

    splits: dict[str, Split] = {"train": "train", "dev": "dev", "test": "test", "ood": "ood"}
    if split not in splits:
        raise DataError(f"the tiny world has no split {split!r}; there are {', '.join(splits)}")
    rows = labelled(splits[split], limit or _TINY_COUNT)
    return [
        replace(row, question=replace(row.question, id=f"{TINY}-{row.question.id}")) for row in rows
    ]

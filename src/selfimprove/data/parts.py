"""A file in parts that share no prompt: what learns, what judges and what is measured on stay apart.

Rows are written as they stand in the file. All rows that begin with the same words of the user go into
one part, so that the turns of one conversation are never on both sides.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any, Final, TypeAlias

from selfimprove.data import dialogues, preference_files
from selfimprove.data.formats import rows_of
from selfimprove.data.overlap import same_text
from selfimprove.data.row import RowError, UnusableRow
from selfimprove.data.tables import records
from selfimprove.errors import ConfigError, DataError
from selfimprove.files import make_folder, write_replacing
from selfimprove.seeds import rng

__all__ = ["FORMATS", "Part", "shares_of_words", "split_file"]

FORMATS: Final = (*dialogues.FORMATS, *preference_files.FORMATS)
"""Formats whose rows begin with a prompt."""

Row: TypeAlias = Mapping[str, Any]
_CLOSE: Final = 1e-6  # shares are written by hand


@dataclass(frozen=True, slots=True)
class Part:
    """What lies in one of the files."""

    file: Path
    rows: int
    prompts: int
    """Different first words of the user."""


def shares_of_words(words: Sequence[str]) -> dict[str, float]:
    """Read `NAME=SHARE` of each part; together they are at most 1, and what is over is in no part.

    >>> shares_of_words(["learn=0.75", "test=0.25"])
    {'learn': 0.75, 'test': 0.25}

    Raises:
        ConfigError: a word says something else, a name comes twice, or the shares are above 1.
    """
    shares: dict[str, float] = {}
    for word in words:
        name, _, share = word.partition("=")
        try:
            value = float(share)
        except ValueError:
            value = 0.0
        if not 0 < value <= 1 or not name.replace("-", "").replace("_", "").isalnum():
            raise ConfigError(f"{word!r} is no part: write a name and a share, e.g. test=0.2")
        if name in shares:
            raise ConfigError(f"there are two parts called {name!r}")
        shares[name] = value
    if not shares or sum(shares.values()) > 1 + _CLOSE:
        raise ConfigError(f"the shares of the parts are {sum(shares.values()):g} together; up to 1")
    return shares


def split_file(
    source: str, format: str, shares: Mapping[str, float], out: Path, seed: int
) -> list[Part]:
    """Write `OUT/NAME.jsonl` for each share, by a seeded draw of prompts, in the file's order.

    Raises:
        ConfigError: a part would be written over the file.
        DataError: the file cannot be read, a row of it is broken, or there are too few prompts for
            each part to hold one.
        DiskFullError: there is no room left.
    """
    of_prompt: dict[str, list[int]] = {}
    read = _rows(source, format)
    for place, (key, _) in enumerate(read):
        of_prompt.setdefault(key, []).append(place)
    prompts = list(of_prompt)
    rng(seed, "parts").shuffle(prompts)
    files = {name: out / f"{name}.jsonl" for name in shares}
    if Path(source).resolve() in {file.resolve() for file in files.values()}:
        raise ConfigError(f"a part would be written over {source}: give another --out or name")
    drawn = _drawn(prompts, shares)
    if empty := [name for name, of_part in drawn.items() if not of_part]:
        raise DataError(f"{source}: of {len(prompts)} prompts none would be in {', '.join(empty)}")
    make_folder(out)
    parts = []
    for name, file in files.items():
        places = sorted(place for key in drawn[name] for place in of_prompt[key])
        lines = "".join(f"{_as_json(read[place][1], source)}\n" for place in places)
        write_replacing(file, lines.encode())
        parts.append(Part(file, len(places), len(drawn[name])))
    return parts


def _drawn(prompts: Sequence[str], shares: Mapping[str, float]) -> dict[str, Sequence[str]]:
    ends = [round(end * len(prompts)) for end in accumulate(shares.values(), initial=0.0)]
    return {
        name: prompts[slice(*ends_of)] for name, ends_of in zip(shares, pairwise(ends), strict=True)
    }


def _as_json(row: Row, source: str) -> str:
    try:
        return json.dumps(row, ensure_ascii=False)
    except TypeError as error:
        raise DataError(f"{source}: a row holds what JSON lines cannot ({error})") from error


def _rows(source: str, format: str) -> list[tuple[str, Row]]:
    """Return every row with the user's first words; what is no comparison is kept, by itself."""
    first_words = _reader(format)
    read: list[tuple[str, Row]] = []
    try:
        for record in records(Path(source), rows_of):
            if record.fields is None:
                raise DataError(f"{source}, {record.place}: {record.problem}")
            try:
                key = same_text(first_words(record.fields))
            except UnusableRow:
                key = f"no comparison, {record.place}"
            except RowError as error:
                raise DataError(f"{source}, {record.place}: {error}") from error
            read.append((key, record.fields))
    except RowError as error:
        raise DataError(f"{source} does not look like {format}: it {error}") from error
    return read


def _reader(format: str) -> Callable[[Row], str]:
    if format in dialogues.FORMATS:
        return lambda fields: dialogues.prompt_and_response(fields)[0]
    if format in preference_files.FORMATS:
        parse = preference_files.parser(format)
        return lambda fields: next(t.content for t in parse(fields)[0] if t.role == "user")
    raise DataError(f"--as {format}: there are {', '.join(FORMATS)}")
